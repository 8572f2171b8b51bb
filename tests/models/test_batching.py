"""Rows packed into sequences without padding, and micro-batches of a budget."""

from alignflow.models.batching import EncodedRow, make_micro_batches, pack

ROWS = [
    EncodedRow((4, 9, 20), (30, 31, 1)),
    EncodedRow((4,), (7, 8, 9, 10, 11, 1)),
    EncodedRow((4, 5, 6, 7, 8), (40,)),
    EncodedRow((4, 5), (50, 51, 52, 53), (True, False, False, True)),
]


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
