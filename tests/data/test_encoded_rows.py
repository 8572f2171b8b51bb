"""What is read from a file of token ids is what was written, a row at a time; lengths are known without reading ids."""

from itertools import dropwhile, takewhile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.encoded_rows import AnswerIds, EncodedRows, EncodedRowWriter, RowIds

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=6).map(tuple)


@st.composite
def rows_of_pairs(draw):
    rows = []
    for number in range(draw(st.integers(0, 7))):
        prompt = draw(IDS)
        answers = []
        for _ in range(2):
            completion = draw(IDS)
            mask = draw(
                st.just(()) | st.lists(st.booleans(), min_size=len(completion), max_size=len(completion)).map(tuple)
            )
            answers.append(AnswerIds(draw(st.just(prompt) | IDS), completion, mask))
        rows.append(RowIds(f"é{number}", tuple(answers), (draw(st.none() | st.floats(-1, 1)),)))
    return rows


def written(path, rows, batch=3):
    with EncodedRowWriter(path, ("chosen", "rejected"), ("margin",)) as writer:
        for start in range(0, len(rows), batch):
            writer.write(rows[start : start + batch])
    return EncodedRows(path)


def counts(answer):
    """Which tokens of an answer count: an empty mask says all of them."""
    return list(answer.mask) or [True] * len(answer.completion_ids)


@settings(max_examples=60, deadline=None)
@given(rows_of_pairs())
def test_every_row_comes_back_and_its_lengths_are_known(tmp_path_factory, rows):
    found = written(tmp_path_factory.mktemp("rows") / "rows.arrow", rows)
    assert len(found) == len(rows) and list(found.names) == [row.name for row in rows]
    for index, row in enumerate(rows):
        for number, (wanted, answer) in enumerate(zip(row.answers, found.row(index), strict=True)):
            name = found.answers[number]
            assert answer[:2] == wanted[:2] and counts(answer) == counts(wanted) and answer == found.answer(index, name)
            assert found.prompt_lengths[name][index] == len(wanted.prompt_ids)
            assert found.lengths(name)[index] == len(wanted.prompt_ids) + len(wanted.completion_ids)
            assert found.supervised[name][index] == sum(counts(wanted))
        assert found.repeats["rejected"][index] == (row.answers[0].prompt_ids == row.answers[1].prompt_ids)
    np.testing.assert_array_equal(found.values["margin"], np.array([row.values[0] for row in rows], dtype=float))


def test_a_prompt_that_both_answers_share_is_written_once_and_is_one_object(tmp_path):
    answer = AnswerIds((1, 2, 3), (4,))
    rows = [RowIds("a", (answer, answer._replace(completion_ids=(5,))), (None,))]
    chosen, rejected = written(tmp_path / "rows.arrow", rows).row(0)
    assert chosen.prompt_ids is rejected.prompt_ids
    with pa.memory_map(str(tmp_path / "rows.arrow")) as file:
        assert pa.ipc.open_file(file).read_all()["rejected/prompt_ids"].to_pylist() == [None]


def test_there_is_no_row_before_the_first_or_after_the_last(tmp_path):
    found = written(tmp_path / "rows.arrow", [RowIds("a", (AnswerIds((1,), (2,)),) * 2, (None,))])
    for index in (-1, 1):
        with pytest.raises(IndexError):
            found.row(index)


def test_what_is_mapped_is_not_in_memory(tmp_path):
    """A file of 80 MB is opened and one row of it read, and Arrow has allocated next to nothing for it."""
    rows = [
        RowIds(str(number), (AnswerIds((1,) * 10000, (2,) * 10000), AnswerIds((1,) * 10000, (3,))), (None,))
        for number in range(4)
    ]
    path = tmp_path / "rows.arrow"
    with EncodedRowWriter(path, ("chosen", "rejected"), ("margin",)) as writer:
        for _ in range(250):
            writer.write(rows)
    assert path.stat().st_size > 80e6
    before = pa.total_allocated_bytes()
    found = EncodedRows(path)
    assert found.row(999)[0].completion_ids == (2,) * 10000
    assert pa.total_allocated_bytes() - before < 1e6
    assert (
        sum(
            array.nbytes
            for array in (
                *found.prompt_lengths.values(),
                *found.completion_lengths.values(),
                *found.supervised.values(),
            )
        )
        == 6 * 4000
    )


def last_run(answer):
    """How many tokens the last stretch of counted ones has, told by reading the mask from its end."""
    reversed_counts = counts(answer)[::-1]
    kept = list(dropwhile(lambda counted: not counted, reversed_counts))
    return len(list(takewhile(bool, kept)))


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_pairs(), batch=st.integers(1, 4))
def test_the_last_stretch_of_tokens_that_count_is_known_without_reading_ids(rows, batch, tmp_path_factory):
    found = written(tmp_path_factory.mktemp("runs") / "rows.arrow", rows, batch)
    for place, name in enumerate(found.answers):
        assert found.last_runs(name).tolist() == [last_run(row.answers[place]) for row in rows]
