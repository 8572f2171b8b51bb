"""Which engine each role gets."""

from __future__ import annotations

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig, LabelConfig, SampleConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.flows import generators
from alignflow.flows.generators import with_generators, with_keys

AUTO = GeneratorConfig()
TRANSFORMERS = GeneratorConfig(name="transformers")


@pytest.fixture
def vllm_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(generators, "vllm_python", lambda: tmp_path)


def test_transformers_with_its_defaults_leaves_no_trace():
    assert with_generators(SampleConfig(generator=TRANSFORMERS), AUTO, "cpu") == SampleConfig()


@pytest.mark.usefixtures("vllm_is_there")
def test_auto_stays_with_transformers_on_a_cpu():
    assert with_generators(SampleConfig(), AUTO, "cpu").generator is None


def test_auto_stays_with_transformers_where_vllm_is_missing(monkeypatch):
    monkeypatch.setattr(generators, "vllm_python", lambda: None)
    assert with_generators(SampleConfig(), AUTO, "cuda").generator is None


@pytest.mark.usefixtures("vllm_is_there")
def test_a_roles_own_engine_comes_before_that_of_the_recipe():
    config = EvaluateConfig(judges=(JudgeConfig(name="llm", generator=TRANSFORMERS),), generator=TRANSFORMERS)
    found = with_generators(config, GeneratorConfig(name="other"), "cpu")
    assert found.generator is None and found.judges[0].generator is None


def test_the_engine_of_the_recipe_reaches_judges_that_run_a_language_model():
    config = EvaluateConfig(judges=(JudgeConfig(name="llm"), JudgeConfig(name="rubric")))
    found = with_generators(config, GeneratorConfig(name="other"), "cpu")
    assert [judge.generator and judge.generator.name for judge in found.judges] == ["other", None]


def test_an_engine_for_a_judge_without_a_language_model_is_refused():
    with pytest.raises(RecipeError, match="runs no language model"):
        with_generators(LabelConfig(judge=JudgeConfig(name="rubric", generator=TRANSFORMERS)), AUTO, "cpu")


def test_the_members_of_a_jury_get_their_engines_and_a_reward_does(monkeypatch):
    monkeypatch.setattr(generators, "vllm_python", lambda: None)
    members = [{"name": "llm"}, {"name": "rubric"}, {"name": "rating", "generator": "transformers"}]
    config = LabelConfig(judge=JudgeConfig(name="jury", options={"judges": members}))
    found = with_generators(config, GeneratorConfig(name="other"), "cpu")
    engines = [member["generator"] and member["generator"]["name"] for member in found.judge.options["judges"]]
    assert engines == ["other", None, None]
    reward = {"name": "judge", "options": {"judge": {"name": "rating"}}}
    training = with_generators(
        AlignConfig(method="ppo", options={"rewards": [reward]}), GeneratorConfig(name="other"), "cpu"
    )
    assert training.options["rewards"][0]["options"]["judge"]["generator"]["name"] == "other"


def test_the_model_that_revises_has_an_engine():
    assert with_generators(ReviseConfig(), GeneratorConfig(name="other"), "cpu").generator.name == "other"


def server(**options):
    return GeneratorConfig(name="server", options={"urls": ["http://127.0.0.1:1/v1"], "model": "m", **options})


def test_the_key_of_an_endpoint_is_named_in_the_runtime_of_the_stage_that_asks_it_alone():
    runtime = Runtime(environment=("MINE",))
    asks = LabelConfig(judge=JudgeConfig(name="llm", generator=server(api_key_env="KEY")))
    assert with_keys(runtime, asks).environment == ("MINE", "KEY")
    assert with_keys(runtime, LabelConfig()) == runtime
    blocks = with_keys(runtime, SampleConfig(generator=server(api_key_block="key", urls=["https://example.org/v1"])))
    assert (blocks.secret_blocks, blocks.proxies, blocks.environment) == (("key",), True, ("MINE",))


def test_an_evaluation_is_not_answered_by_a_model_that_is_none_of_the_runs():
    with pytest.raises(RecipeError, match="serves its own model"):
        with_generators(EvaluateConfig(generator=server()), AUTO, "cpu")
    served = GeneratorConfig(name="server", options={"serve": {}})
    assert with_generators(EvaluateConfig(generator=served), AUTO, "cpu").generator == served


SAMPLING = {"ppo": {}, "online_dpo": {}, "nash_ema": {}, "on_policy_distillation": {"teacher": "t"}}
"""Methods of every family that samples while it trains, with the options that they need."""


def engine_of(method, own=None, default=AUTO, device="cpu"):
    options = SAMPLING[method] if own is None else {**SAMPLING[method], "generator": own}
    found = with_generators(AlignConfig(method=method, options=options), default, device)
    return catalogue.parse_options(catalogue.METHODS[method], found.options, "options").generator


@pytest.mark.parametrize("method", list(SAMPLING))
@pytest.mark.usefixtures("vllm_is_there")
def test_what_samples_for_a_policy_in_training_has_an_engine_of_its_own_which_auto_leaves_to_the_model_on_a_cpu(method):
    assert engine_of(method) is None and engine_of(method, "transformers") is None
    vllm = GeneratorConfig(name="vllm")
    assert engine_of(method, "vllm").name == "vllm" and engine_of(method, default=vllm).name == "vllm"
    assert engine_of(method, device="cuda").name == "vllm"


@pytest.mark.parametrize("method", list(SAMPLING))
def test_an_endpoint_does_not_sample_for_a_policy_in_training(method):
    """Its weights stay. Where it is the engine of the recipe, the policy's model samples."""
    with pytest.raises(RecipeError, match="cannot load the weights"):
        engine_of(method, server().model_dump())
    assert engine_of(method, default=server()) is None
