"""Models beside the policy: which a method has, and which of them are refused."""

import json
import shutil
from types import SimpleNamespace

import pytest

from alignflow.data import catalogue
from alignflow.data.errors import ModelError, RecipeError
from alignflow.data.run import Runtime
from alignflow.models.policy import load_policy
from alignflow.models.trainers.second_models import live_model, teacher_of, value_network

METHODS = catalogue.METHODS
RUN = SimpleNamespace(runtime=Runtime())


@pytest.fixture(scope="module")
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime())


def test_a_method_has_the_models_that_its_row_says(policy, tiny_checkpoint):
    assert (
        live_model(METHODS["dpo"], None, policy, tiny_checkpoint, RUN) is None
        and value_network(METHODS["dpo"], tiny_checkpoint, RUN) is None
    )
    reference = live_model(METHODS["tdpo2"], None, policy, tiny_checkpoint, RUN)
    teacher = live_model(METHODS["gkd"], SimpleNamespace(teacher=str(tiny_checkpoint)), policy, tiny_checkpoint, RUN)
    for frozen in (reference, teacher):
        assert frozen is not policy and not any(parameter.requires_grad for parameter in frozen.model.parameters())
    assert teacher_of(METHODS["gkd"], SimpleNamespace(teacher="org/name")).as_posix() == "org/name"
    assert teacher_of(METHODS["dpo"], None) is None


def test_a_value_network_learns_and_has_no_opinion_at_first(tiny_checkpoint):
    network = value_network(METHODS["dro_v"], tiny_checkpoint, RUN)
    assert all(parameter.requires_grad for parameter in network.model.parameters())
    assert float(network.model.score.weight.abs().sum()) == 0


def test_a_value_network_is_not_divided_among_processes(tiny_checkpoint):
    with pytest.raises(RecipeError, match="engine.zero_stage"):
        value_network(
            METHODS["dro_v"], tiny_checkpoint, SimpleNamespace(runtime=Runtime(engine="deepspeed", zero_stage=3))
        )


def test_a_teacher_of_another_vocabulary_is_refused(policy, tiny_checkpoint, tmp_path):
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"]
    first, second = list(ids)[-2:]
    ids[first], ids[second] = ids[second], ids[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="different meanings") as refused:
        live_model(METHODS["gkd"], SimpleNamespace(teacher=str(other)), policy, tiny_checkpoint, RUN)
    assert "align.options.teacher" in str(refused.value)
