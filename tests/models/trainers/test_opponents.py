"""Opponents: who they are, what a state holds of them, and whom they follow."""

import pytest
import torch
from tiny_model import make_checkpoint, wide_awake
from training_support import reader_of, whole_state

from alignflow.data.catalogue.online_preference_methods import ONLINE_PREFERENCE
from alignflow.data.configs.online_preference import NashEMAOptions, NashMDOptions
from alignflow.data.configs.training import AlignConfig, LoRAConfig
from alignflow.data.run import Runtime
from alignflow.models.adapters import add_adapter
from alignflow.models.batching import EncodedRow
from alignflow.models.engines.base import make_engine
from alignflow.models.engines.partitioned import is_partitioned
from alignflow.models.generation.base import Sampling
from alignflow.models.policy import load_policy
from alignflow.models.trainers.opponents import OPPONENTS, Players, make_opponent

ASKED = ([(5, 6, 7), (8, 9)], Sampling(6), [1, 2])
CONFIG = AlignConfig(method="nash_ema", learning_rate=0.05, max_length=64)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return wide_awake(make_checkpoint(tmp_path_factory.mktemp("start")))


def players(path, options):
    policy, reference = load_policy(path, Runtime(), trainable=True), load_policy(path, Runtime())
    return Players(policy, reference, options, Runtime())


def with_adapter(path, ema_decay):
    pytest.importorskip("peft")
    policy = load_policy(path, Runtime(), trainable=True)
    add_adapter(policy, CONFIG.model_copy(update={"lora": LoRAConfig(r=2)}), path)
    return Players(policy, None, NashEMAOptions(ema_decay=ema_decay), Runtime())


def learning(policy):
    return {name: value for name, value in policy.model.named_parameters() if value.requires_grad}


def copies(policy):
    return {name: value.detach().clone() for name, value in policy.model.named_parameters()}


def moved(policy, by=0.2):
    """Move all that trains, each weight otherwise."""
    with torch.no_grad():
        for number, parameter in enumerate(learning(policy).values()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * by)


def test_every_methods_opponent_is_in_the_table():
    named = {row.opponent for row in ONLINE_PREFERENCE.values() if hasattr(row, "opponent")}
    assert named == set(OPPONENTS) and OPPONENTS["policy"] is None


def both_kinds(path, ema_decay):
    return [players(path, NashEMAOptions(ema_decay=ema_decay)), with_adapter(path, ema_decay)]


def test_the_average_follows_what_trains_by_its_decay_and_comes_back_from_a_state(path):
    for both in both_kinds(path, 0.75):
        opponent, first = make_opponent("ema", both), copies(both.policy)
        moved(both.policy)
        new = copies(both.policy)
        opponent.follow(both.policy)
        (kept,) = opponent.states.values()
        state = {name: value.clone() for name, value in whole_state(kept).items()}
        assert state.keys() == learning(both.policy).keys()
        for name, value in state.items():
            torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * new[name])
        opponent.follow(both.policy)
        assert any(not torch.equal(value, state[name]) for name, value in whole_state(kept).items())
        kept.load_parts(reader_of(state))
        assert all(torch.equal(value, state[name]) for name, value in whole_state(kept).items())


def test_the_averaged_model_answers_and_the_policy_is_the_same_bits_afterwards(path):
    """With the decay 0 the average is the policy that it followed last."""
    for both in both_kinds(path, 0.0):
        opponent, fixed = make_opponent("ema", both), make_opponent("mixture", mixed(both))
        first = opponent.generate(*ASKED)
        assert first == fixed.generate(*ASKED), "it starts at the policy"
        moved(both.policy)
        before = copies(both.policy)
        assert opponent.generate(*ASKED) == first != fixed.generate(*ASKED)
        with opponent.session():
            assert [opponent.generate(*ASKED) for _ in range(2)] == [first, first], "as often as one likes"
        assert all(torch.equal(value, before[name]) for name, value in copies(both.policy).items())
        opponent.follow(both.policy)
        assert opponent.generate(*ASKED) == fixed.generate(*ASKED)


def mixed(both):
    """The same models with a mixture that is the policy alone."""
    return Players(both.policy, both.reference, NashMDOptions(mixture_coef=0.0), both.runtime)


def test_under_zero_3_the_average_is_what_it_is_without(path):
    """One process: matrices are shared out, small parameters stay in every process, the tied head is held."""
    answers, states = [], []
    for runtime in (Runtime(), Runtime(engine="deepspeed", zero_stage=3)):
        policy = load_policy(path, runtime, trainable=True)
        engine = make_engine(policy.model, CONFIG, runtime)
        opponent = make_opponent("ema", Players(policy, None, NashEMAOptions(ema_decay=0.5), runtime))
        found = [opponent.generate(*ASKED)]
        for _ in range(2):
            rows = [row_of(prompt) for prompt in ASKED[0]]
            engine.backward(policy.token_statistics(rows).logps.sum())
            engine.step(0.05)
            opponent.follow(policy)
            found.append(opponent.generate(*ASKED))
        answers.append(found)
        states.append({name: value.clone() for name, value in whole_state(opponent).items()})
        opponent.follow(policy)
        opponent.load_parts(reader_of(states[-1]))
        assert opponent.generate(*ASKED) == found[-1], "it comes back from a state"
        if runtime.zero_stage == 3:
            shared = [is_partitioned(parameter) for parameter in policy.model.parameters()]
            assert all(shared), "else nothing is tested"
        engine.close()
    assert answers[0] == answers[1] and answers[0][0] != answers[0][2]
    assert all(torch.allclose(value, states[1][name], atol=1e-4) for name, value in states[0].items())


def row_of(prompt):
    return EncodedRow(prompt, (11, 12, 13))


def test_the_reference_stays_where_it_is_and_the_mixture_goes_along_with_the_policy(path):
    both = players(path, NashMDOptions(mixture_coef=0.0))
    reference, mixture = make_opponent("reference", both), make_opponent("mixture", both)
    before = reference.generate(*ASKED)
    assert mixture.generate(*ASKED) == before and reference.states == mixture.states == {}
    with torch.no_grad():
        both.policy.model.get_output_embeddings().weight.neg_()
    assert reference.generate(*ASKED) == before != mixture.generate(*ASKED)
