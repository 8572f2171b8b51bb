"""From a stage's config, inputs and runtime to what it needs."""

import json

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.generation import EvaluateConfig, LabelConfig, SampleConfig
from alignflow.data.configs.inputs import InitConfig
from alignflow.data.configs.training import AlignConfig, LoRAConfig, ReferenceConfig, RewardConfig, SFTConfig
from alignflow.data.estimate.demands import Asked, place_of
from alignflow.data.estimate.disk import state_bytes
from alignflow.data.estimate.memory import FrozenModel, LearningModel, training_need
from alignflow.data.estimate.place import Place
from alignflow.data.estimate.shapes import ModelShape, read_shape
from alignflow.data.estimate.stages import DEMANDS, FAMILY_DEMANDS, demand
from alignflow.data.run import Runtime

SHAPE = ModelShape("llama", 192, 6, 6, 2, 32, 512, 4096, tied=True)
GPU = Runtime(device="cuda", precision="bf16", engine="deepspeed", micro_batch_tokens=4096)
CONFIGS = {
    "init": InitConfig(),
    "sft": SFTConfig(),
    "sample": SampleConfig(),
    "reward": RewardConfig(),
    "reference": ReferenceConfig(),
    "align": AlignConfig(),
    "evaluate": EvaluateConfig(),
    "label": LabelConfig(judge={"name": "llm"}),
}
MODELS = ("base", "policy", "checkpoint", "aligned", "sft")


def asked(config, runtime=GPU, shape=SHAPE, **more):
    return Asked(config, {**dict.fromkeys(MODELS, shape), **more}, runtime, 256)


def test_every_stage_says_what_it_needs_or_holds_no_model():
    assert set(catalogue.STAGES) - set(DEMANDS) == {"prepare", "split", "select", "report"}
    assert set(DEMANDS) <= set(catalogue.STAGES)


@pytest.mark.parametrize("stage", CONFIGS)
def test_a_known_shape_has_a_need_and_an_unknown_one_none(stage):
    found = demand(stage, asked(CONFIGS[stage]))
    assert found.need(found.settings).peak.total > 4 * SHAPE.backbone / 2
    if stage != "init":
        assert demand(stage, asked(CONFIGS[stage], shape=None)) is None


def test_a_judge_without_a_model_needs_none():
    assert demand("label", asked(LabelConfig())) is None and demand("prepare", asked(None)) is None


def test_the_runtime_says_how_the_work_is_shared():
    runtime = Runtime(
        device="cuda", precision="bf16", engine="deepspeed", zero_stage=3, offload="all", processes=4, nodes=2
    )
    assert place_of(runtime) == Place("cuda", "bf16", "deepspeed", 3, 8, 2, "all")
    assert place_of(runtime).processes_per_node == 4


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"batch_size": 64, "max_length": 512}, 4096),  # the budget
        ({"batch_size": 2, "max_length": 512}, 1024),  # all rows of a step
        ({"batch_size": 64, "max_length": 8192}, 8192),  # one row at least
    ],
)
def test_a_pass_holds_the_budget_or_a_step_and_one_row_at_least(config, tokens):
    found = demand("sft", asked(SFTConfig(**config)))
    learner = LearningModel(SHAPE, tokens, tokens, evaluated_tokens=max(4096, config["max_length"]))
    assert found.need(found.settings) == training_need(learner, found.settings.place)


def test_adapter_and_checkpointing_are_the_configs():
    settings = demand("align", asked(AlignConfig(lora=LoRAConfig(r=4), gradient_checkpointing=True))).settings
    assert settings.lora_rank == 4 and settings.gradient_checkpointing


def test_taking_in_a_model_happens_on_the_cpu_and_sampling_in_one_process():
    several = GPU.model_copy(update={"processes": 8, "zero_stage": 3})
    assert demand("init", asked(InitConfig(), several)).settings.place.device == "cpu"
    assert demand("sample", asked(SampleConfig(), several)).settings.place.processes == 1


def test_states_are_written_where_a_training_lasts_and_the_best_step_is_kept():
    once = state_bytes([LearningModel(SHAPE, 1, 1)])
    short, long = (demand("sft", asked(SFTConfig(max_steps=steps, save_steps=50))).states for steps in (50, 51))
    assert short == 0 and long == once
    assert demand("sft", asked(SFTConfig(eval_steps=10))).states == once + 4 * SHAPE.parameters


def ppo(**more):
    return demand(
        "align", asked(AlignConfig(method="ppo", lora=more.pop("lora", None), options=more.pop("options", {})), **more)
    )


def test_ppo_needs_two_learning_models_and_the_frozen_ones():
    with_reward, without, pairs = ppo(reward_model=SHAPE), ppo(), demand("align", asked(AlignConfig()))
    totals = [found.need(found.settings).peak.total for found in (pairs, without, with_reward)]
    assert totals[2] - totals[1] == FrozenModel(SHAPE, scores=True).held(pairs.settings.place), "a frozen reward model"
    assert totals[1] - totals[0] > 16 * SHAPE.scoring_parameters, "a value model that learns"
    assert with_reward.states == state_bytes([LearningModel(SHAPE, 1, 1), LearningModel(SHAPE, 1)])
    assert ppo(reward_model=None) is None


def test_a_value_network_learns_beside_the_policy_and_is_no_adapter():
    without, found = (demand("align", asked(AlignConfig(method=name))) for name in ("kto", "dro_v"))
    weights = [each.need(each.settings).peak.total for each in (without, found)]
    assert weights[1] - weights[0] > 16 * SHAPE.scoring_parameters, "weights, moments and gradients of a second network"
    assert (
        found.states == state_bytes([LearningModel(SHAPE, 1, 1), LearningModel(SHAPE, 1)])
        and found.whole
        and not without.whole
    )
    adapted = demand("align", asked(AlignConfig(method="dro_v", lora=LoRAConfig(r=4))))
    assert adapted.need(adapted.settings).peak.total > 16 * SHAPE.scoring_parameters


def test_a_teacher_stands_beside_the_student_even_of_an_adapter(tmp_path):
    """Its shape comes from its own config.json; of one that is not known nothing is said."""
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 192,
                "num_hidden_layers": 12,
                "num_attention_heads": 6,
                "num_key_value_heads": 2,
                "intermediate_size": 512,
                "vocab_size": 4096,
                "tie_word_embeddings": True,
            }
        )
    )
    teacher = read_shape(tmp_path)
    assert teacher.parameters > SHAPE.parameters
    for lora in (None, LoRAConfig(r=4)):
        found = demand("align", asked(AlignConfig(method="gkd", options={"teacher": str(tmp_path)}, lora=lora)))
        peak = found.need(found.settings).peak
        assert peak.parts["frozen"] == FrozenModel(teacher).held(found.settings.place)
    assert demand("align", asked(AlignConfig(method="gkd", options={"teacher": str(tmp_path / "nowhere")}))) is None


def test_an_adapters_base_is_its_reference_and_the_value_model_has_no_adapter():
    found = ppo(lora=LoRAConfig(r=4))
    peak = next(phase for phase in found.need(found.settings).phases if phase.name == "sampling")
    assert "frozen" not in peak.parts
    assert found.states == state_bytes([LearningModel(SHAPE, 1, 1, lora_rank=4), LearningModel(SHAPE, 1)])


def test_a_method_that_compares_holds_its_reference_and_an_average_where_that_is_the_opponent():
    judged = {"judge": {"name": "rubric"}}
    for method, averages in (("online_dpo", 0), ("nash_md", 0), ("nash_ema", 1)):
        found = demand("align", asked(AlignConfig(method=method, options=judged)))
        reference = FrozenModel(SHAPE).held(found.settings.place)
        assert found.need(found.settings).peak.parts["frozen"] == reference + averages * 4 * SHAPE.parameters, method


def test_a_family_that_samples_has_a_rule_of_its_own_and_all_others_count_their_answers():
    assert set(FAMILY_DEMANDS) == {name for name, row in catalogue.FAMILIES.items() if not row.feeds}
    assert all(row.answers >= 1 for row in catalogue.FAMILIES.values())
