"""Pairs are cut into parts by their order, by how easy they are, or by where they come from; each pair is in one part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.training import SplitConfig
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.parts import PairRows, log_ratios, parts_of, split
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.data.step_names import part_name


def pair(name, source="a", rejected="worse"):
    chosen = assistant(f"better {name}")
    return {"id": name, "source": source, "prompt": user(name), "chosen": chosen, "rejected": assistant(rejected)}


def listed(count, sources=None):
    return PairRows([f"p{n}" for n in range(count)], sources or ["a"] * count, [False] * count)


@pytest.fixture
def cut(tmp_path):
    """Cut pairs, with a reference's scores where there are some; returns the directory of the parts and the metrics."""
    runs = []

    def do(config, rows, gaps=None):
        root = tmp_path / str(len(runs))
        runs.append(root)
        write_table(rows, "preferences", root / "pairs" / "train.parquet")
        write_table(rows[:1], "preferences", root / "pairs" / "heldout.parquet")
        if gaps is not None:
            scores = [{"id": name, "tokens": 1, "logps": gap} for name, gap in gaps.items()]
            scores += [{"id": name, "tokens": 1, "logps": 0.0} for name in gaps]
            write_table(scores, "references", root / "scores" / "train.parquet")
        for name in ("out", "side", "work", "rows"):
            (root / name).mkdir()
        run = Run(**{name: root / name for name in ("out", "side", "work", "rows")}, runtime=Runtime())
        reference = root / "scores" if gaps is not None else None
        return root / "out", split(config, preferences=root / "pairs", reference=reference, run=run)

    return do


def names(directory, number):
    return [row["id"] for row in read_table(directory / part_name(number) / "train.parquet")]


def payload(directory, number):
    return [(directory / part_name(number) / f"{side}.parquet").read_bytes() for side in ("train", "heldout")]


def test_parts_by_order_are_consecutive_and_have_all_held_out_pairs(cut):
    rows = [pair(f"p{n}") for n in range(5)]
    directory, metrics = cut(SplitConfig(parts=2, order="given"), rows)
    assert (names(directory, 1), names(directory, 2)) == (["p0", "p1", "p2"], ["p3", "p4"])
    assert metrics == {"pairs/1": 3.0, "pairs/2": 2.0}
    for number in (1, 2):
        assert [row["id"] for row in read_table(directory / part_name(number) / "heldout.parquet")] == ["p0"]
    assert read_table(directory / "part.2" / "train.parquet")[0]["chosen"] == assistant("better p3")


def test_easy_pairs_come_first_and_keep_the_tables_order_inside_their_part(cut):
    rows, gaps = [pair(f"p{n}") for n in range(4)], {"p0": -3.0, "p1": 1.0, "p2": -1.0, "p3": 5.0}
    directory, metrics = cut(SplitConfig(parts=2, order="easy_to_hard"), rows, gaps)
    assert (names(directory, 1), names(directory, 2)) == (["p1", "p3"], ["p0", "p2"])
    assert metrics["accuracy/1"] == 1.0 and metrics["accuracy/2"] == 0.0
    assert (metrics["logratio/1"], metrics["logratio/2"]) == (3.0, -2.0)


def test_a_pair_that_the_reference_left_out_is_in_the_last_part(cut):
    rows = [pair(f"p{n}") for n in range(3)]
    directory, _ = cut(SplitConfig(parts=2, order="easy_to_hard"), rows, {"p1": 0.0, "p2": 1.0})
    assert (names(directory, 1), names(directory, 2)) == (["p2"], ["p0", "p1"])


def test_a_part_for_each_source_in_the_order_of_the_recipe(cut):
    rows = [pair("p0", "b"), pair("p1", "a"), pair("p2", "b")]
    directory, _ = cut(SplitConfig(parts=2, order="sources"), rows)
    assert (names(directory, 1), names(directory, 2)) == (["p0", "p2"], ["p1"])


def test_another_pair_in_the_second_part_leaves_the_first_as_it_is_byte_for_byte(cut):
    rows = [pair(f"p{n}") for n in range(4)]
    config = SplitConfig(parts=2, order="given")
    first, second = cut(config, rows)[0], cut(config, [*rows[:3], pair("p3", rejected="much worse")])[0]
    assert payload(first, 1) == payload(second, 1) and payload(first, 2) != payload(second, 2)


def test_tools_in_one_part_are_no_column_of_another(cut):
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "{}"}]}
    rows = [pair("p0"), pair("p1")]
    config = SplitConfig(parts=2, order="given")
    plain, with_tools = cut(config, rows)[0], cut(config, [rows[0], {**rows[1], "chosen": [called]}])[0]
    assert payload(plain, 1)[0] == payload(with_tools, 1)[0] and payload(plain, 2)[0] != payload(with_tools, 2)[0]


def test_one_source_more_leaves_the_parts_before_it_as_they_are(cut):
    rows = [pair("p0", "a"), pair("p1", "b")]
    two = cut(SplitConfig(parts=2, order="sources"), rows)[0]
    three = cut(SplitConfig(parts=3, order="sources"), [*rows, pair("p2", "c")])[0]
    assert [payload(two, number) for number in (1, 2)] == [payload(three, number) for number in (1, 2)]


@given(st.integers(2, 9), st.lists(st.floats(-50, 50) | st.none(), min_size=1, max_size=40))
def test_every_pair_is_in_one_part_and_scored_ones_are_shared_out_evenly_from_easy_to_hard(parts, gaps):
    known = {f"p{n}": gap for n, gap in enumerate(gaps) if gap is not None}
    config, pairs = SplitConfig(parts=parts, order="easy_to_hard"), listed(len(gaps))
    if len(known) < parts:
        with pytest.raises(DataError, match="cannot be cut"):
            parts_of(config, pairs, known)
        return
    found = parts_of(config, pairs, known)
    members = [[gaps[n] for n, part in enumerate(found) if part == number] for number in range(1, parts + 1)]
    scored = [[gap for gap in part if gap is not None] for part in members]
    assert sum(map(len, members)) == len(gaps) and all(None not in part for part in members[:-1])
    assert max(map(len, scored)) - min(map(len, scored)) <= 1
    assert all(min(easier) >= max(harder) for easier, harder in zip(scored, scored[1:], strict=False))


def test_what_cannot_be_cut_is_refused_with_what_to_do():
    with pytest.raises(DataError, match="1 preference pair cannot be cut into 2 parts"):
        parts_of(SplitConfig(parts=2, order="given"), listed(1))
    with pytest.raises(DataError, match=r"2 sources \(a, b\), and there are 3 stages(.|\n)*set stages to 2"):
        parts_of(SplitConfig(parts=3, order="sources"), listed(2, ["a", "b"]))
    with pytest.raises(DataError, match=r"from 1 source \(a\), and there are 2 stages(.|\n)*order to given"):
        parts_of(SplitConfig(parts=2, order="sources"), listed(2))
    with pytest.raises(TrainingError, match="no scores to order the pairs by"):
        parts_of(SplitConfig(parts=2, order="easy_to_hard"), listed(2))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([("p0", 1.0), ("other", 0.0)], "other rows"),
        ([("p9", 1.0), ("p9", 0.0)], "other rows"),
        ([("p0", float("nan")), ("p0", 0.0)], "no number"),
    ],
)
def test_scores_of_other_rows_or_without_a_value_are_refused(scores, message, tmp_path):
    rows = [{"id": name, "tokens": 1, "logps": value} for name, value in scores]
    write_table(rows, "references", tmp_path / "train.parquet")
    with pytest.raises(TrainingError, match=message):
        log_ratios(tmp_path / "train.parquet", ["p0", "p1"])
