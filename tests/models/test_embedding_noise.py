"""NEFTune's noise: its size, that it is the row's own, and that it reaches the embeddings of a forward pass and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from alignflow.data.run import Runtime
from alignflow.models import attention, backbone
from alignflow.models.batching import EncodedRow, pack
from alignflow.models.embedding_noise import EmbeddingNoise, added_to_embeddings, whole
from alignflow.models.policy import load_policy

ROWS = [
    EncodedRow((4, 9, 20), (30, 31, 1)),
    EncodedRow((4, 9, 20), (7, 8), (False, True)),
    EncodedRow((5,), (6, 7, 8, 9)),
]
NAMES = ["a", "b", "c"]
WIDTH = 8


def noise_of(rows, names, step=1, seed=0, alpha=5.0):
    """Name -> the noise of its row, (tokens, WIDTH)."""
    made = EmbeddingNoise(alpha, seed)
    made.restore({"step": step})
    packed = pack([whole(row) for row in rows])
    found = made.of(names)(packed)(WIDTH)
    return {
        name: found[part.start : part.start + part.length] for name, part in zip(names, packed.segments, strict=True)
    }


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(3)), st.integers(1, 3))
def test_a_rows_noise_depends_on_seed_step_and_name_alone(order, count):
    whole_step, part = noise_of(ROWS, NAMES), order[:count]
    found = noise_of([ROWS[place] for place in part], [NAMES[place] for place in part])
    assert all(torch.equal(found[name], whole_step[name]) for name in found)
    for other in (noise_of(ROWS, NAMES, step=2), noise_of(ROWS, NAMES, seed=1), noise_of(ROWS, ["x", "y", "z"])):
        assert not any(
            torch.equal(first, second) for first, second in zip(whole_step.values(), other.values(), strict=True)
        )


def test_it_is_uniform_within_alpha_over_the_root_of_tokens_times_width():
    row = EncodedRow((1,), tuple(range(2, 1001)))
    found, most = noise_of([row], ["a"], alpha=3.0)["a"], 3.0 / (1000 * WIDTH) ** 0.5
    assert found.abs().max() <= most and found.abs().max() > 0.99 * most
    assert found.mean().abs() < 0.02 * most
    assert found.square().mean().sqrt().item() == pytest.approx(most / 3**0.5, rel=0.02), (
        "the deviation of a uniform distribution"
    )


def test_a_whole_row_counts_the_same_tokens_of_the_same_ids(tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime())
    torch.testing.assert_close(
        policy.token_statistics([whole(row) for row in ROWS]).logps, policy.token_statistics(ROWS).logps
    )


@pytest.mark.parametrize("packed_rows", [True, False])
def test_it_is_added_to_the_embeddings_of_each_row_packed_or_padded(packed_rows, tiny_checkpoint, monkeypatch):
    policy = load_policy(tiny_checkpoint, Runtime())
    rows = [whole(row) for row in ROWS]
    plain = policy.token_statistics(rows).logps
    monkeypatch.setattr(backbone, "packs", lambda model: packed_rows)
    if not packed_rows:
        attention.uninstall(policy.model)
    noise = EmbeddingNoise(50.0, 0)
    with policy.with_noise(noise.of(NAMES)):
        found = policy.token_statistics(rows).logps
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).eval()
    table = model.get_input_embeddings()
    wanted = []
    for row, name in zip(rows, NAMES, strict=True):
        ids = torch.tensor([row.completion_ids])
        own = noise.of([name])(pack([row]))(table.embedding_dim)
        logps = model(inputs_embeds=table(ids) + own).logits[0].log_softmax(-1)
        following = logps[:-1].gather(-1, ids[0, 1:, None])[:, 0]
        wanted.append(following[torch.tensor(row.mask[1:])])
    torch.testing.assert_close(found, torch.cat(wanted), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2), "the noise is large enough to be seen"
    torch.testing.assert_close(policy.token_statistics(rows).logps, plain, atol=1e-4, rtol=1e-4)


def test_nothing_stays_behind_where_a_forward_pass_fails(tiny_checkpoint):
    model = load_policy(tiny_checkpoint, Runtime()).model
    with pytest.raises(RuntimeError, match="stop"), added_to_embeddings(model, lambda width: torch.ones(1, width)):
        raise RuntimeError("stop")
    assert not model.get_input_embeddings()._forward_hooks
