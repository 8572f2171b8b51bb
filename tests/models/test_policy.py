"""Packed log-probabilities are those of the plain model, row by row, with their gradients."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow, make_micro_batches, pack
from alignflow.models.policy import completion_logps, load_policy

ROWS = [
    EncodedRow((4, 9, 20), (30, 31, 1)),
    EncodedRow((4,), (7, 8, 9, 10, 11, 1)),
    EncodedRow((4, 5, 6, 7, 8), (40,)),
    EncodedRow((4, 5), (50, 51, 52, 53), (True, False, False, True)),
]


def plain(path, rows):
    """Log-probabilities of the tokens that count, one row at a time through the model as transformers has it."""
    model = AutoModelForCausalLM.from_pretrained(path)
    results = []
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0][len(row.prompt_ids) - 1 :]
        results.append(logps[torch.tensor(row.mask)] if row.mask else logps)
    return model, results


@pytest.fixture
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime(), trainable=True)


def test_log_probabilities_are_those_of_the_plain_model(policy, tiny_checkpoint):
    _, wanted = plain(tiny_checkpoint, ROWS)
    found = policy.token_statistics(ROWS)
    assert found.logps.dtype == torch.float32
    torch.testing.assert_close(found.logps, torch.cat(wanted), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sums(), torch.stack([row.sum() for row in wanted]), atol=1e-5, rtol=1e-5)
    assert found.counts().tolist() == [3, 6, 1, 2]


def test_gradients_are_those_of_the_plain_model(policy, tiny_checkpoint):
    model, wanted = plain(tiny_checkpoint, ROWS)
    torch.cat(wanted).sum().backward()
    policy.token_statistics(ROWS).logps.sum().backward()
    other = dict(model.named_parameters())
    for name, parameter in policy.model.named_parameters():
        torch.testing.assert_close(parameter.grad, other[name].grad, atol=1e-4, rtol=1e-4)


def test_a_row_does_not_see_its_neighbours(policy):
    alone = policy.token_statistics(ROWS[:1]).logps
    together = policy.token_statistics([ROWS[2], ROWS[0], ROWS[1]]).logps[1:4]
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_entropy_and_correct_are_on_request(policy):
    found = policy.token_statistics(ROWS, ("logps", "entropy", "correct"))
    assert (found.values["entropy"] > 0).all() and set(found.values["correct"].tolist()) <= {0.0, 1.0}


def test_chunks_of_the_head_change_nothing(policy, monkeypatch):
    whole = policy.token_statistics(ROWS).logps
    monkeypatch.setattr("alignflow.models.head.CHUNK_BYTES", 320 * 4 * 2)
    torch.testing.assert_close(policy.token_statistics(ROWS).logps, whole)


@pytest.mark.parametrize("tokens", [4, 12, 1000])
def test_completion_logps_keep_the_order_of_rows_whatever_the_micro_batch(policy, tokens):
    found = completion_logps(policy, ROWS, tokens)
    whole = policy.token_statistics(ROWS).logps.detach()
    torch.testing.assert_close(torch.cat(found), whole, atol=1e-5, rtol=1e-5)
    assert [len(row) for row in found] == [3, 6, 1, 2]


def test_bf16_products_stay_near_fp32(policy, tiny_checkpoint):
    half = load_policy(tiny_checkpoint, Runtime(precision="bf16")).token_statistics(ROWS)
    assert half.logps.dtype == torch.float32
    torch.testing.assert_close(half.logps, policy.token_statistics(ROWS).logps.detach(), atol=0.05, rtol=0.05)


def test_packing_has_no_padding():
    packed = pack(ROWS)
    assert packed.input_ids.shape == (1, sum(map(len, ROWS)))
    assert packed.position_ids[0, :8].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert packed.last.tolist() == [5, 12, 18, 24]


def test_micro_batches_hold_each_row_once_and_keep_the_budget():
    lengths = [5, 9, 3, 20, 7, 7]
    batches = make_micro_batches(lengths, 16)
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert all(len(batch) == 1 or sum(lengths[index] for index in batch) <= 16 for batch in batches)
