"""Rows on disk: as they were, and gone at the end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.spool import Spool, SpooledRows, read_rows, write_rows

turns = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=2), max_size=3)
rows_of_tables = st.lists(
    st.fixed_dictionaries(
        {"id": st.text(max_size=5), "score": st.none() | st.floats(allow_nan=False), "n": st.integers(), "turns": turns}
    ),
    max_size=8,
)


@given(rows_of_tables, st.randoms())
def test_rows_come_back_as_they_were_and_a_mask_chooses(tmp_path_factory, rows, rng):
    path = tmp_path_factory.getbasetemp() / "chunk.rows"
    write_rows(path, rows)
    mask = np.array([rng.random() < 0.5 for _ in rows], dtype=bool)
    chosen = [row for row, stays in zip(rows, mask, strict=True) if stays]
    spooled = SpooledRows([(path, mask), (path, ~mask)])
    assert list(read_rows(path)) == rows and list(read_rows(path, mask)) == chosen
    assert len(spooled) == len(rows) and list(spooled)[: len(chosen)] == chosen == [
        spooled.row(number) for number in range(len(chosen))
    ]


def test_a_kind_of_list_of_its_own_becomes_a_list(tmp_path):
    class Own(list):
        pass

    write_rows(tmp_path / "chunk.rows", [{"scores": Own([1.0, 2.0])}])
    assert list(read_rows(tmp_path / "chunk.rows")) == [{"scores": [1.0, 2.0]}]


@pytest.mark.parametrize(
    ("figure", "plain"),
    [(np.float64(0.1), 0.1), (np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), True), (np.str_("a"), "a")],
)
def test_a_figure_of_numpy_comes_back_as_pythons_own_and_not_as_bytes(tmp_path, figure, plain):
    write_rows(tmp_path / "chunk.rows", [{"scores": [1.0, figure], "id": "a"}])
    (row,) = read_rows(tmp_path / "chunk.rows")
    assert row == {"scores": [1.0, plain], "id": "a"} and type(row["scores"][1]) is type(plain)


@pytest.mark.parametrize("value", [np.zeros(2), object(), {1, 2}, b"bytes"])
def test_what_no_table_holds_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="a row of data cannot hold"):
        write_rows(tmp_path / "chunk.rows", [{"id": "a", "value": value}])


def test_an_error_removes_the_rows_and_what_a_killed_process_left_is_removed_at_the_beginning(tmp_path):
    place = tmp_path / "spool"
    place.mkdir()
    (place / "left.rows").touch()
    with pytest.raises(ValueError, match="stop"), Spool(place) as spool:
        assert list(place.iterdir()) == []
        write_rows(spool.new(), [{"id": "1"}])
        assert len(list(place.iterdir())) == 1
        raise ValueError("stop")
    assert not place.exists()
