"""Activations against what torch really keeps; laws of the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from alignflow.data.estimate.memory import (
    HEAD_CHUNK,
    FrozenModel,
    LearningModel,
    Rollout,
    cache_bytes,
    forward_only,
    generation_need,
    layer_activations,
    online_need,
    scoring_need,
    step_phases,
    training_need,
)
from alignflow.data.estimate.place import Place
from alignflow.data.estimate.shapes import ModelShape
from alignflow.data.run import Runtime
from alignflow.models import head, policy
from alignflow.models.batching import EncodedRow

EIGHT_B = ModelShape("llama", 4096, 32, 32, 8, 128, 14336, 128256)
SMALL = [
    ModelShape("llama", 192, 6, 6, 2, 32, 512, 512, tied=True),
    ModelShape("llama", 256, 4, 4, 4, 64, 1024, 512, tied=True),
]


def kept_bytes(shape, precision, rows, length):
    """Bytes of everything but weights that autograd holds after a forward pass of our policy."""
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            num_key_value_heads=shape.num_key_value_heads,
            intermediate_size=shape.intermediate_size,
            vocab_size=shape.vocab_size,
            tie_word_embeddings=shape.tied,
        )
    )
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.Policy(model, None, Runtime(precision=precision)).token_statistics(
            [EncodedRow((1,) * 4, (2,) * (length - 4))] * rows
        )
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SMALL)
def test_activations_are_what_torch_keeps_for_the_backward_pass(shape, precision):
    counted = kept_bytes(shape, precision, rows=4, length=32)
    (_, backward) = step_phases(LearningModel(shape, 128, 128), Place("cpu", precision))
    estimated = backward.parts["activations"] + backward.parts["bf16 copies"]
    assert counted == pytest.approx(estimated, rel=0.15)


def test_one_layer_by_hand():
    # h 4096, q 4096, k 1024, i 14336: 6h + 3q + 2k + 4i = 96,256 fp32 numbers; in bf16 16h bytes and 5h + 3q + 2k + 4i halves.
    assert layer_activations(EIGHT_B, "fp32") == 4 * 96_256
    assert layer_activations(EIGHT_B, "bf16") == 16 * 4096 + 2 * (5 * 4096 + 3 * 4096 + 2 * 1024 + 4 * 14336)


def test_the_cache_by_hand():
    # 32 layers, keys and values of 8 heads of 128, bf16: 131,072 bytes per token; 16 rows of 1,024 tokens are 2 GiB.
    assert cache_bytes(EIGHT_B, Rollout(16, 768, 256), "bf16") == 2 * 2**30


def test_the_chunk_of_the_head_is_that_of_the_models():
    assert HEAD_CHUNK == head.CHUNK_TOKENS
    logits = step_phases(LearningModel(EIGHT_B, 8192, 8192), Place("cuda", "bf16"))[1].parts["logits"]
    assert logits == 12 * 2048 * 128256


def test_gradient_checkpointing_keeps_one_input_per_layer():
    place = Place("cuda", "fp32")
    plain, again = (
        step_phases(LearningModel(EIGHT_B, 8192, 8192, gradient_checkpointing=on), place)[1].parts["activations"]
        for on in (False, True)
    )
    assert again < plain / 10 and again >= 32 * 8192 * 4096 * 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_has_gradients_and_moments_of_its_own_weights_alone_and_its_base_is_in_bf16(precision):
    learner = LearningModel(EIGHT_B, 8192, 8192, lora_rank=16, gradient_checkpointing=True)
    need = training_need(learner, Place("cuda", precision))
    backward = next(phase for phase in need.phases if phase.name == "backward pass")
    adapter = EIGHT_B.lora_parameters(16)
    assert backward.parts["gradients"] == 4 * adapter and backward.parts["optimizer"] == 12 * adapter
    converted = EIGHT_B.layer_matrices + EIGHT_B.vocab_size * EIGHT_B.hidden_size if precision == "bf16" else 0
    assert backward.parts["weights"] == 4 * (EIGHT_B.parameters + adapter) - 2 * converted
    assert "bf16 copies" not in backward.parts
    assert need.host["copy"] == 4 * (EIGHT_B.parameters + adapter), "it is read in fp32"


def test_a_partitioned_base_and_a_moving_average_stay_in_fp32():
    learner = LearningModel(EIGHT_B, 8192, 8192, lora_rank=16)
    partitioned = training_need(learner, Place("cuda", "bf16", zero_stage=3, processes=8)).peak.parts["weights"]
    assert partitioned == 4 * learner.weights / 8
    place = Place("cuda", "bf16")
    reference, average = (FrozenModel(EIGHT_B, averages=averages).held(place) for averages in (False, True))
    assert average == 4 * EIGHT_B.parameters and reference < 0.6 * average


def test_on_a_cpu_the_model_is_whole_in_fp32_while_it_is_read():
    place = Place("cpu", "bf16", engine="torch")
    for need in (
        training_need(LearningModel(EIGHT_B, 64, 64, lora_rank=16), place),
        scoring_need([FrozenModel(EIGHT_B)], forward_only(EIGHT_B, 64, 64, place), place),
    ):
        assert need.peak.name == "loading" and need.peak.parts["weights"] >= 4 * EIGHT_B.parameters


def test_ppo_holds_two_learning_models_and_two_frozen_ones():
    place = Place("cuda", "bf16", zero_stage=1)
    policy_model, value = LearningModel(EIGHT_B, 8192, 8192), LearningModel(EIGHT_B, 8192)
    need = online_need(
        policy_model, value, [FrozenModel(EIGHT_B), FrozenModel(EIGHT_B, scores=True)], Rollout(32, 512, 512), place
    )
    sampling = next(phase for phase in need.phases if phase.name == "sampling")
    both = EIGHT_B.parameters + EIGHT_B.scoring_parameters
    assert sampling.parts["weights"] == 4 * both and sampling.parts["optimizer"] == 12 * both
    frozen = sampling.parts["frozen"]
    assert frozen == 4 * both - 2 * (2 * EIGHT_B.layer_matrices + EIGHT_B.vocab_size * EIGHT_B.hidden_size)
    alone = training_need(policy_model, place).peak.total
    assert need.peak.total > alone + 16 * EIGHT_B.scoring_parameters + frozen


def test_offloaded_frozen_models_stand_in_the_machines_memory():
    learners = LearningModel(EIGHT_B, 8192, 8192), LearningModel(EIGHT_B, 8192)
    frozen = [FrozenModel(EIGHT_B), FrozenModel(EIGHT_B, scores=True)]
    on, off = (
        online_need(
            *learners, frozen, Rollout(32, 512, 512), Place("cuda", "bf16", zero_stage=3, processes=8, offload=value)
        )
        for value in ("none", "all")
    )
    assert off.host["frozen"] == on.peak.parts["frozen"] == 4 * sum(model.weights for model in frozen) / 8
    assert off.peak.total < on.peak.total


learners = st.builds(
    LearningModel,
    st.sampled_from([*SMALL, EIGHT_B]),
    st.integers(64, 65536),
    head_tokens=st.integers(0, 65536),
    lora_rank=st.sampled_from([None, 8, 64]),
    gradient_checkpointing=st.booleans(),
)
places = st.builds(
    Place, st.sampled_from(["cpu", "cuda"]), st.sampled_from(["fp32", "bf16"]), zero_stage=st.sampled_from([1, 2, 3])
)


@given(learner=learners, place=places)
def test_more_tokens_need_more_and_nothing_is_negative(learner, place):
    more = LearningModel(
        learner.shape, 2 * learner.tokens, 2 * learner.head_tokens, learner.lora_rank, learner.gradient_checkpointing
    )
    small, large = training_need(learner, place), training_need(more, place)
    assert all(value >= 0 for phase in small.phases for value in phase.parts.values())
    assert small.peak.total <= large.peak.total


@given(rows=st.integers(1, 256), new=st.integers(1, 1024), place=places)
def test_sampling_more_rows_or_longer_answers_needs_more(rows, new, place):
    total = generation_need(EIGHT_B, Rollout(rows, 256, new), place).peak.total
    assert total < generation_need(EIGHT_B, Rollout(rows + 1, 256, new), place).peak.total
    assert total < generation_need(EIGHT_B, Rollout(rows, 256, new + 1), place).peak.total
