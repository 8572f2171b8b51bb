"""Parsing accounts for every row and column: examples of what was dropped, columns that nobody read, names that the recipe maps."""

import json
import re

import pytest
from pydantic import ValidationError

from alignflow.data.chunk_parsing import EXCERPT, parse_chunk
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.parsing import Kept, parse_sources
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.sources import soundness
from alignflow.data.sources.detect import LOOKED_AT
from alignflow.tasks.keys.key import _flatten

QA = {"id": 7, "data": {"question": "q", "turns": [{"text": "a"}]}, "reply": "a", "note": "n"}


@pytest.fixture
def parse(tmp_path):
    """Write rows to a file and parse it as one kind."""

    def parse_it(rows, kind="demonstrations", **source):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return parse_sources([SourceConfig(path=str(path), **source)], kind, PrepareConfig(max_broken_fraction=0.5))

    return parse_it


def test_a_reason_has_its_first_example_and_a_long_one_is_cut():
    kept = Kept()
    kept.count("empty", "file: row 1:  a\nb")
    kept.count("empty", "file: row 2: c")
    kept.count("other")
    kept.count("other", "x " * 1000)
    assert kept.dropped == {"empty": 2, "other": 2} and kept.examples["empty"] == "file: row 1: a b"
    assert len(kept.examples["other"]) <= EXCERPT and kept.examples["other"].endswith("...")


def test_an_example_cannot_steer_a_terminal():
    kept = Kept()
    kept.count("empty", "\x1b[2J")
    assert kept.examples["empty"] == r"\x1b[2J"


def test_every_reason_has_an_example_that_says_where(parse):
    good = [{"prompt": f"q{index}", "completion": "a"} for index in range(9)]
    kept = parse(
        [*good, "{", {"prompt": "mine", "completion": " "}, {"prompt": "q", "completion": ["x"]}],
        weight=0.9,
        max_rows=3,
    )
    assert (
        kept.examples.keys() == (+kept.dropped).keys()
        and {"not_json", "empty", "not_text", "over_max_rows"} <= kept.examples.keys()
    )
    assert kept.examples["not_json"] == "rows.jsonl: line 10"
    assert kept.examples["empty"] == "rows.jsonl: row 11: prompt: mine"
    assert kept.read == len(kept.rows) + sum(kept.dropped.values()) == 12


@pytest.mark.parametrize("value", [b"x", "\ud800"])
def test_a_row_without_an_id_stops_nothing(monkeypatch, value):
    monkeypatch.setattr("alignflow.data.chunk_parsing.check_row", lambda row: None)
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": value}}}],
    }
    rows = [(1, {"messages": [*user("q"), called]}), (2, {"messages": [*user("q"), *assistant("a")]})]
    found, made = parse_chunk(rows, SourceConfig(path="rows"), "rows", "demonstrations", "messages")
    assert found.dropped == {"malformed": 1} and found.kept == len(made) == 1


def test_columns_that_no_parser_reads_are_named_and_so_are_keys_of_turns(parse):
    rows = [
        {"prompt": "q", "completion": "a", "model": "m", "nothing": None},
        {"prompt": "r", "completion": "a", "date": 5},
    ]
    assert parse(rows).unused == {"rows.jsonl": ["date", "model"]}
    turns = [{**user("q")[0], "lang": "en"}, {**assistant("a")[0], "weight": 1}]
    assert parse([{"messages": turns, "tools": []}]).unused == {"rows.jsonl": ["messages[].lang"]}


def test_keys_of_a_trees_replies_are_not_named_since_its_parser_reads_them(parse):
    replies = [{"role": "assistant", "text": text, "rank": rank, "replies": []} for rank, text in enumerate("ab")]
    assert parse([{"role": "prompter", "text": "q", "replies": replies}], "preferences").unused == {"rows.jsonl": []}


def test_the_system_column_of_a_conversation_is_read_and_so_not_named(parse):
    assert parse([{"prompt": "q", "completion": "a", "system": "s"}]).unused == {"rows.jsonl": []}


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"prompt": "data.question", "completion": "reply"}, [*user("q"), *assistant("a")]),
        ({"prompt": "data.question", "completion": "data.turns.0.text"}, [*user("q"), *assistant("a")]),
        (
            {"instruction": "note", "output": "reply", "system": "data.question"},
            [{"role": "system", "content": "q"}, *user("n"), *assistant("a")],
        ),
    ],
)
def test_the_recipe_says_which_column_is_what(parse, columns, wanted):
    kept = parse([QA, QA], columns=columns)
    assert [row["messages"] for row in kept.rows] == [wanted, wanted]
    beside = set() if "data.turns.0.text" in columns.values() else {"data.turns"}
    assert (
        set(kept.unused["rows.jsonl"])
        == {"id", "note", "reply", "data"} - {path.split(".")[0] for path in columns.values()} | beside
    )


META = {"prompt": "meta.q", "completion": "answer"}


@pytest.mark.parametrize(
    ("beside", "row", "why"),
    [
        ({"label": False}, {}, "labelled_bad"),
        ({"kto_tag": "bad"}, {}, "labelled_bad"),
        ({"weight": 0}, {}, "nothing_to_train"),
        ({"weight": 0.5}, {}, "unknown_weight"),
        ({"train": False}, {"train": True}, "unknown_weight"),
        ({"label": False}, {"label": True}, "unknown_label"),
        ({"system": "S"}, {"system_prompt": "T"}, "two_system_prompts"),
        ({"system": "S"}, {"system": "T"}, "two_system_prompts"),
        ({"history": [["a", "b"]]}, {"history": [["c", "d"]]}, "unknown_history"),
        ({"tools": [{"id": "w"}]}, {}, "bad_tools"),
        ({"images": ["0.png"]}, {}, "images"),
    ],
)
def test_what_changes_the_meaning_counts_beside_a_mapped_value_as_in_a_column_of_its_own(parse, beside, row, why):
    good = {"meta": {"q": "p"}, "answer": "a"}
    kept = parse([good, {"meta": {"q": "x", **beside}, "answer": "a", **row}], columns=META)
    assert kept.dropped == {why: 1} and len(kept.rows) == 1


def test_a_system_turn_and_a_history_beside_a_mapped_value_are_used(parse):
    row = {"meta": {"q": "x", "system": "S", "history": [["b", "c"]], "label": True}, "answer": "a", "system": "S"}
    kept = parse([row], columns=META)
    assert kept.rows[0]["messages"] == [
        {"role": "system", "content": "S"},
        *user("b"),
        *assistant("c"),
        *user("x"),
        *assistant("a"),
    ]
    assert kept.unused == {"rows.jsonl": []}


def test_what_mapped_names_hide_is_named(parse):
    row = {
        "meta": {"q": "x", "topic": "t", "none": None, "deep": {"by": "b"}},
        "answer": "a",
        "prompt": "other",
        "turns": [{"text": "y"}, {"text": "z"}],
    }
    assert parse([row], columns=META).unused == {"rows.jsonl": ["meta.deep", "meta.topic", "prompt", "turns"]}
    kept = parse([row], columns={"prompt": "meta.q", "completion": "turns.0.text", "system": "meta.deep.by"})
    assert kept.unused == {"rows.jsonl": ["answer", "meta.topic", "prompt", "turns[]"]}


def test_a_name_that_is_mapped_is_not_taken_from_beside(parse):
    row = {"meta": {"q": "x", "label": False, "good": True}, "answer": "a"}
    kept = parse([row], "unpaired", columns={**META, "label": "meta.good"})
    assert kept.rows[0]["label"] is True


def test_columns_may_change_places_and_a_name_with_a_dot_is_a_name(parse):
    kept = parse([{"prompt": "a", "completion": "q"}], columns={"prompt": "completion", "completion": "prompt"})
    assert kept.rows[0]["messages"] == [*user("q"), *assistant("a")]
    kept = parse([{"data.q": "q", "a": "a"}], columns={"prompt": "data.q", "completion": "a"})
    assert kept.rows[0]["messages"] == [*user("q"), *assistant("a")]


def test_a_row_without_a_column_that_the_recipe_names_is_dropped(parse):
    columns = {"prompt": "data.question", "completion": "reply"}
    assert parse([QA, {"data": {}, "reply": "a"}, {"data": "x", "reply": "a"}], columns=columns).dropped == {
        "missing_column": 2
    }
    with pytest.raises(
        DataError, match=r"no row has all of the columns data.nothing(.|\n)*its columns are data, id, note, reply"
    ):
        parse([QA], columns={"prompt": "data.nothing"})


def test_a_column_that_no_format_reads_cannot_be_mapped():
    with pytest.raises(ValidationError, match="did you mean 'prompt'"):
        SourceConfig(path="x", columns={"promt": "question"})


def test_mapped_columns_enter_the_key_and_none_leave_it_as_it_was():
    def key(**more):
        return dict(_flatten(SourceConfig(path="x", **more), "config", NoContents()))

    class NoContents:
        def of(self, *arguments):
            return "digest"

    assert "config.columns" not in key() and key(columns={"prompt": "q"})["config.columns"] == {"prompt": "q"}


def test_the_weight_of_a_turn_is_kept_in_the_table_and_tables_without_one_are_as_before(tmp_path):
    plain = {"id": "1", "source": "s", "messages": [*user("q"), *assistant("a")]}
    weighted = {
        "id": "2",
        "source": "s",
        "messages": [*user("q"), {**assistant("bad")[0], "weight": 0}, *user("q"), *assistant("a")],
    }
    write_table([plain, weighted], "demonstrations", tmp_path / "with.parquet")
    write_table([plain], "demonstrations", tmp_path / "without.parquet")
    assert read_table(tmp_path / "with.parquet") == [plain, weighted] and read_table(tmp_path / "without.parquet") == [
        plain
    ]
    write_table(
        [{"id": "3", "source": "s", "prompt": weighted["messages"][:3]}], "prompts", tmp_path / "prompts.parquet"
    )
    assert all(set(turn) == {"role", "content"} for turn in read_table(tmp_path / "prompts.parquet")[0]["prompt"])


def test_a_broken_line_far_from_the_first_is_counted_under_its_own_number(parse):
    rows = [{"messages": [*user(f"q{number}"), *assistant("a")]} for number in range(LOOKED_AT)]
    found = parse(
        [
            *rows,
            '{"messages": 1, "messages": 2}',
            "",
            "[]",
            '{"messages": [{"role": "user", "content": "\\ud800"}]}',
            "{",
            *rows,
            "{",
        ]
    )
    assert found.read == 2 * LOOKED_AT + 5
    assert found.dropped == {"repeated_key": 1, "not_a_row": 1, "lone_surrogate": 1, "not_json": 2}
    assert found.examples == {
        "repeated_key": f"rows.jsonl: line {LOOKED_AT + 1}",
        "not_a_row": f"rows.jsonl: line {LOOKED_AT + 3}",
        "lone_surrogate": f"rows.jsonl: line {LOOKED_AT + 4}",
        "not_json": f"rows.jsonl: line {LOOKED_AT + 5}",
    }


def test_too_many_broken_lines_are_refused_wherever_they_stand(parse):
    rows = [{"messages": [*user("q"), *assistant("a")]}] * LOOKED_AT
    with pytest.raises(
        DataError,
        match=rf"{LOOKED_AT + 1} of {2 * LOOKED_AT + 1} lines are broken \(line {LOOKED_AT + 1}: not_json; .*; \.\.\.\)",
    ):
        parse([*rows, *["{"] * (LOOKED_AT + 1)])


def test_broken_lines_are_listed_in_their_order_whoever_finds_them(parse, monkeypatch):
    monkeypatch.setattr(soundness, "MOST_BYTES", 200)
    rows = [{"messages": [*user("q"), *assistant("a")]}] * LOOKED_AT
    listed = [
        f"line {LOOKED_AT + place}: {reason}"
        for place, reason in ((1, "not_json"), (2, "over_16_MiB"), (3, "not_a_row"), (4, "over_16_MiB"))
    ]
    with pytest.raises(DataError, match=re.escape("; ".join(listed))):
        parse([*rows, "{", "x" * 300, "[]", "y" * 300, *["{"] * LOOKED_AT])


SPLITS = ["train", "train", "test", "validation", None]


@pytest.mark.parametrize(("split", "kept"), [("train", [0, 1]), ("test", [2]), ("dev", [3])])
def test_where_a_column_tells_the_split_the_rows_of_the_others_are_left_out_and_counted(parse, split, kept):
    """The test rows of a file with all splits were trained on."""
    rows = [{"prompt": f"q{i}", "completion": "a", "split": told} for i, told in enumerate(SPLITS)]
    found = parse(rows, split=split)
    assert [row["messages"][0]["content"] for row in found.rows] == [f"q{i}" for i in kept]
    assert found.dropped == {"other_split": len(rows) - len(kept)} and found.unused == {"rows.jsonl": []}
    assert found.read == len(rows) and "split:" in found.examples["other_split"]


@pytest.mark.parametrize("told", ["test", "easy"])
def test_rows_that_are_all_of_one_split_or_tell_none_are_read_where_no_other_was_asked_for(parse, told):
    found = parse([{"prompt": "q", "completion": "a", "split": told}])
    assert len(found.rows) == 1 and found.unused == {"rows.jsonl": ["split"]}


def test_a_split_that_no_row_tells_is_refused_with_those_that_are_told(parse):
    with pytest.raises(DataError, match="(?s)no row of the split 'heldout'.*tells: test, train"):
        parse([{"prompt": "q", "completion": "a", "split": split} for split in ("train", "test")], split="heldout")
