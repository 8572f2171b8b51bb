"""Opponents: who they are, what a state holds of them, and whom they follow."""

import pytest
import torch
from tiny_model import make_checkpoint

from alignflow.data.catalogue.online_preference_methods import ONLINE_PREFERENCE
from alignflow.data.configs.online_preference import NashEMAOptions, NashMDOptions
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Sampling
from alignflow.models.policy import load_policy
from alignflow.models.trainers.opponents import OPPONENTS, Players, check_opponent, make_opponent

ASKED = ([(5, 6, 7), (8, 9)], Sampling(4), [1, 2])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("start"))


def players(path, options):
    policy, reference = load_policy(path, Runtime(), trainable=True), load_policy(path, Runtime())
    return Players(policy, reference, path, options, Runtime())


def moved(policy):
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1.0)


def test_every_methods_opponent_is_in_the_table():
    named = {row.opponent for row in ONLINE_PREFERENCE.values() if hasattr(row, "opponent")}
    assert named == set(OPPONENTS) and OPPONENTS["policy"] is None


def test_the_average_follows_by_its_decay_and_comes_back_from_a_state(path):
    both = players(path, NashEMAOptions(ema_decay=0.75))
    opponent, first = make_opponent("ema", both), load_policy(path, Runtime()).model.state_dict()
    before = opponent.generate(*ASKED)
    moved(both.policy)
    opponent.follow(both.policy)
    kept = {name: value.clone() for name, value in opponent.tensors().items()}
    assert all(torch.allclose(value, first[name.removeprefix("average/")] + 0.25) for name, value in kept.items())
    opponent.follow(both.policy)
    opponent.take_up(kept)
    assert all(torch.equal(value, kept[name]) for name, value in opponent.tensors().items())
    assert make_opponent("ema", both).generate(*ASKED) == before, "a new one starts from the checkpoint"


def test_the_reference_stays_where_it_is_and_the_mixture_goes_along_with_the_policy(path):
    both = players(path, NashMDOptions(mixture_coef=0.0))
    reference, mixture = make_opponent("reference", both), make_opponent("mixture", both)
    before = reference.generate(*ASKED)
    assert mixture.generate(*ASKED) == before and reference.tensors() == mixture.tensors() == {}
    with torch.no_grad():
        both.policy.model.get_output_embeddings().weight.neg_()
    assert reference.generate(*ASKED) == before != mixture.generate(*ASKED)


def test_an_average_of_an_adapter_is_refused():
    check_opponent("mixture", adapter=True)
    with pytest.raises(RecipeError, match="not kept for an adapter"):
        check_opponent("ema", adapter=True)
