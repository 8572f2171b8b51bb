"""Packing with shared prompts changes nothing, whatever a model's attention; a model that refuses it is found out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from alignflow.data.run import Runtime
from alignflow.models import attention, backbone
from alignflow.models.batching import EncodedRow, pack, packed_length, row_micro_batches, row_places
from alignflow.models.policy import Policy
from alignflow.models.recompute import recompute_layers

PROMPT = (5, 6, 7, 8, 9, 10)
ROWS = [
    EncodedRow(PROMPT, (11, 12, 13)),
    EncodedRow((20,), tuple(range(30, 41))),
    EncodedRow(PROMPT, tuple(range(41, 50))),
    EncodedRow(PROMPT, (), ()),
    EncodedRow((), (50, 51, 52)),
    EncodedRow(PROMPT, (11, 60, 61, 62), (False, True, False, True)),
]
SMALL = {"vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
MODELS = {
    "llama": (True, LLAMA),
    "mistral": (True, {**LLAMA, "sliding_window": 4}),  # a window shorter than the rows
    "gpt2": (True, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "gpt_neox": (True, LLAMA),
    "opt": (True, {**LLAMA, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gemma3_text": (
        True,
        {**LLAMA, "head_dim": 8, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "gemma2": (False, {**LLAMA, "head_dim": 8}),  # soft cap
    "gpt_oss": (False, {**LLAMA, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),  # attention sinks
    "bloom": (False, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),  # ALiBi
    "gpt_neo": (
        False,
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
        },
    ),
    "mamba": (False, {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),  # no attention at all
    "llama4_text": (
        False,
        {
            **LLAMA,
            "head_dim": 8,
            "attention_chunk_size": 4,
            "layer_types": ["chunked_attention", "full_attention"],
            "num_local_experts": 2,
            "intermediate_size_mlp": 64,
            "interleave_moe_layer_step": 10,
        },
    ),  # a mask of its own kind
}


def make_model(kind):
    """A small random model, sharp enough that a wrong attention shows."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **MODELS[kind][1])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model


def one_by_one(model, rows):
    """Log-probabilities of the tokens that count, row after row, each through the model as transformers has it."""
    found = []
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        logps = (
            model(input_ids=ids, use_cache=False)
            .logits.float()
            .log_softmax(-1)[0, :-1]
            .gather(-1, ids[0, 1:, None])[:, 0]
        )
        counted = [row.prompt_ids != ()] * bool(row.completion_ids) + [True] * (len(row.completion_ids) - 1)
        counted = [a and b for a, b in zip(counted, row.mask or counted, strict=True)]
        places = [len(row.prompt_ids) - 1 + offset for offset, wanted in enumerate(counted) if wanted]
        found.append(logps[places])
    return torch.cat(found)


@pytest.mark.parametrize("kind", list(MODELS))
def test_packed_rows_with_shared_prompts_are_rows_one_by_one(kind):
    """Values to 1e-4 and gradients to 1e-3 of their largest, for models that pack and for those that do not."""
    model = make_model(kind)
    wanted = one_by_one(model, ROWS)
    gradients = torch.autograd.grad(
        wanted.sum(), [parameter for parameter in model.parameters() if parameter.requires_grad], allow_unused=True
    )
    policy = Policy(model, None, Runtime())
    found = policy.token_statistics(ROWS).logps
    assert backbone.packs(model) == MODELS[kind][0]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    found.sum().backward()
    for (name, parameter), other in zip(model.named_parameters(), gradients, strict=True):
        if other is not None:
            torch.testing.assert_close(
                parameter.grad, other, atol=1e-3 * float(other.abs().max()) + 1e-5, rtol=1e-3, msg=name
            )


def test_a_model_that_refuses_keeps_its_own_attention():
    model = make_model("gemma2")
    own = model.config._attn_implementation
    Policy(model, None, Runtime()).token_statistics(ROWS)
    attention.install(model)
    assert model.config._attn_implementation == own


def test_uninstalling_gives_back_what_was_loaded():
    model = make_model("llama")
    own = model.config._attn_implementation
    Policy(model, None, Runtime())
    assert model.config._attn_implementation == attention.NAME
    attention.uninstall(model)
    assert model.config._attn_implementation == own


def test_outside_a_layout_nothing_attends_across_rows():
    model = make_model("llama")
    Policy(model, None, Runtime())
    with pytest.raises(attention.Refused, match="layout"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_gradient_checkpointing_sees_the_rows_of_its_own_forward_pass():
    """Two forward passes of different rows before the first backward pass: the recomputation must not mix them up."""
    gradients = []
    for checkpointing in (False, True):
        model = make_model("llama")
        policy = Policy(model, None, Runtime())
        if checkpointing:
            policy.token_statistics(ROWS[:1])  # tried before
            recompute_layers(model)
        first, second = policy.token_statistics(ROWS[:3]).logps.sum(), policy.token_statistics(ROWS[1:]).logps.sum()
        (first * 2).backward()
        second.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-5)


tokens = st.lists(st.integers(3, 127), max_size=6).map(tuple)
rows = st.lists(st.builds(EncodedRow, st.sampled_from([(5,), (5, 6), PROMPT]) | tokens, tokens), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def policy():
    return Policy(make_model("mistral"), None, Runtime())


@settings(max_examples=30, deadline=None)
@given(rows=rows.filter(lambda rows: any(map(len, rows))))
def test_a_rows_values_do_not_depend_on_its_company(policy, rows):
    rows = [row for row in rows if len(row)]
    with torch.no_grad():
        together = policy.token_statistics(rows)
        alone = torch.cat([policy.token_statistics([row]).logps for row in rows])
    torch.testing.assert_close(together.logps, alone, atol=1e-4, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(rows=rows, budget=st.integers(1, 40))
def test_micro_batches_hold_each_row_once_and_their_shared_tokens_keep_the_budget(rows, budget):
    batches = row_micro_batches(rows, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) == 1 or packed_length([rows[index] for index in batch]) <= budget


@given(rows=rows)
@settings(max_examples=50, deadline=None)
def test_a_packed_sequence_has_each_shared_prompt_once_and_every_row_whole(rows):
    packed = pack(rows)
    assert packed.input_ids.shape == (1, packed_length(rows))
    for row, segment in zip(rows, packed.segments, strict=True):
        if len(row):
            places = row_places([segment], packed.input_ids.device)[0][0]
            assert tuple(packed.input_ids[0][places].tolist()) == row.prompt_ids + row.completion_ids
            assert packed.position_ids[0][places].tolist() == list(range(len(row)))


def test_padding_side_means_nothing():
    """Rows are ids without padding: what a padded batch of either side would hold gives the same packed sequence."""
    model = make_model("llama")
    wanted = Policy(model, None, Runtime()).token_statistics(ROWS[:3]).logps
    attention.uninstall(model)
    for side in ("left", "right"):
        found = []
        longest = max(map(len, ROWS[:3]))
        for row in ROWS[:3]:
            ids = row.prompt_ids + row.completion_ids
            spare = longest - len(ids)
            first = spare if side == "left" else 0
            padded = torch.zeros(1, longest, dtype=torch.long)
            mask = torch.zeros(1, longest, dtype=torch.long)
            padded[0, first : first + len(ids)], mask[0, first : first + len(ids)] = torch.tensor(ids), 1
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logps = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits.log_softmax(-1)
            start = first + len(row.prompt_ids)
            found.append(
                logps[0, start - 1 : start - 1 + len(row.completion_ids)].gather(
                    -1, torch.tensor(row.completion_ids)[:, None]
                )[:, 0]
            )
        torch.testing.assert_close(wanted, torch.cat(found), atol=1e-4, rtol=1e-4)
