"""A damaged file is one message; a row that no table, tokenizer or loss can hold is dropped and counted, and never kept in silence."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import AlignflowError, DataError, UserError
from alignflow.data.parsing import parse_sources
from alignflow.tasks.keys.content import ContentDigests

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
GOOD = [{**PAIR, "prompt": f"question {index}"} for index in range(30)]


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


@pytest.fixture
def parse(tmp_path):
    """Write a file and parse it; returns the number of rows kept, and what was dropped."""

    def parse_it(name, content, kind="preferences", **source):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        kept = parse_sources([SourceConfig(path=str(path), **source)], kind, PrepareConfig())
        return len(kept.rows), dict(+kept.dropped)

    return parse_it


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**PAIR, "margin": 10**400}, "not_finite"),
        ('{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1e999}', "not_finite"),
        ({**PAIR, "margin": float("-inf")}, "not_finite"),
        ({**PAIR, "margin": True}, "not_a_number"),
        ({**PAIR, "margin": "wide"}, "not_a_number"),
        ({**PAIR, "soft_label": 1.7}, "no_probability"),
        ({**PAIR, "chosen_ended": "maybe"}, "not_a_boolean"),
        ({**PAIR, "chosen": "\ud800"}, "lone_surrogate"),
        ({**PAIR, "chosen": "a\0"}, "nul_character"),
        ({**PAIR, "chosen": "\u200b"}, "empty"),
        ("[" * 100_000, "too_deep"),
        ('{"prompt": ' + "[" * 500 + "]" * 500 + "}", "too_deep"),
        ('{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}', "repeated_key"),
        ({"prompt": "q", "completions": ["a", "b"], "scores": [1, float("nan")]}, "not_finite"),
        ({**PAIR, "soft_label": 1.00001}, "no_probability"),
        ({**PAIR, "chosen_ended": 2}, "not_a_boolean"),
        ({"prompt": "q", "completions": ["a", "b"], "scores": [None, 1]}, "no_scores"),
        ({"prompt": "q", "completions": ["a", "b"], "scores": [1, 10**400]}, "not_finite"),
        ({"prompt": "q", "completions": ["a", "b"], "scores": [1, True]}, "no_scores"),
    ],
)
def test_a_row_that_means_nothing_is_dropped_and_counted(parse, row, reason):
    assert parse("rows.jsonl", lines(*GOOD, row), format="trl") == (30, {reason: 1})


@pytest.mark.parametrize("instructions", [5, 0, True, "free text", '{"id": 1}', '["x"]', {"a": 1}, [5]])
def test_instructions_that_are_no_checks_are_not_kept(parse, instructions):
    assert parse("p.jsonl", lines(*GOOD, {"prompt": "q", "instructions": instructions}), "prompts", format="trl") == (
        30,
        {"bad_instructions": 1},
    )


@pytest.mark.parametrize(
    "more",
    [
        {"instruction_id_list": "abc"},
        {"instruction_id_list": ["a", "b"], "kwargs": [{}]},
        {"instruction_id_list": ["a"], "kwargs": ["{"]},
    ],
)
def test_checks_without_their_arguments_are_not_kept(parse, more):
    assert parse("p.jsonl", lines(*GOOD, {"prompt": "q", **more}), "prompts", format="trl") == (
        30,
        {"bad_instructions": 1},
    )


def test_the_checks_of_a_parquet_file_may_be_json_texts(tmp_path):
    row = {"prompt": "q", "instruction_id_list": '["a:b"]', "kwargs": '[{"n": 2}]'}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "p.parquet")
    (found,) = parse_sources(
        [SourceConfig(path=str(tmp_path / "p.parquet"), format="trl")], "prompts", PrepareConfig()
    ).rows
    assert json.loads(found["instructions"]) == [{"id": "a:b", "kwargs": {"n": 2}}]


def test_a_figure_that_a_table_marks_as_missing_is_none_and_a_probability_may_be_rounded(tmp_path):
    row = {**PAIR, "score_chosen": float("nan"), "margin": "nan", "soft_label": 1.0000001}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    (found,) = parse_sources([SourceConfig(path=str(tmp_path / "p.jsonl"))], "preferences", PrepareConfig()).rows
    assert (found["score_chosen"], found["margin"], found["soft_label"]) == (None, None, 1.0)


@pytest.mark.parametrize("kind", ["preferences", "demonstrations", "rankings"])
def test_an_answer_without_a_score_or_rank_is_never_the_best(parse, kind):
    ranked = {"prompt": "q", "answers": [{"text": "a", "rank": float("nan")}, {"text": "b", "rank": 1}]}
    scored = {"prompt": "q", "answers": [{"text": "a", "score": float("nan")}, {"text": "b", "score": -1}]}
    good = {"prompt": "q", "answers": [{"text": "a", "rank": 1}, {"text": "b", "rank": 2}]}
    assert parse("a.jsonl", lines(good, ranked, scored), kind, format="comparison") == (
        1,
        {"no_scores": 1, "not_finite": 1},
    )


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("true", "FALSE"), ("1", "0"), ("1.0", "0.0")])
def test_a_table_of_text_writes_yes_and_no_as_words_or_numbers(tmp_path, yes, no):
    for name, text in {
        "preferences": f"prompt,chosen,rejected,chosen_ended,rejected_ended\nq,a,b,{yes},{no}\nr,a,b,,\n",
        "unpaired": f"prompt,completion,label\nq,a,{yes}\nr,a,{no}\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(text)
        found = parse_sources([SourceConfig(path=str(tmp_path / f"{name}.csv"))], name, PrepareConfig()).rows
        flags = [row.get("label", (row.get("chosen_ended"), row.get("rejected_ended"))) for row in found]
        assert flags == ([True, False] if name == "unpaired" else [(True, False), (None, None)])


def test_whether_answers_ended_may_be_written_as_numbers(parse):
    row = {"prompt": "q", "completions": ["a", "b"]}
    content = lines(
        {**row, "ended": [1, 0]}, {**row, "ended": [1, 2]}, {**row, "ended": [1, None]}, {**row, "ended": "10"}
    )
    assert parse("a.jsonl", content, "completions", format="trl") == (1, {"not_a_boolean": 3})


def test_whether_ranked_answers_ended_is_kept(tmp_path):
    row = {"prompt": "q", "completions": ["a", "b"], "scores": [1, 2]}
    (tmp_path / "a.jsonl").write_text(
        lines({**row, "ended": [True, 0]}, row, {**row, "ended": [True]}, {**row, "ended": [True, None]})
    )
    found = parse_sources([SourceConfig(path=str(tmp_path / "a.jsonl"))], "rankings", PrepareConfig())
    assert [each.get("ended") for each in found.rows] == [[True, False], None]
    assert dict(+found.dropped) == {"not_a_boolean": 2} and found.unused == {"a.jsonl": []}


def test_whether_one_answer_ended_is_kept_as_the_row_says(tmp_path):
    row = {"prompt": "q", "completion": "a", "label": True}
    (tmp_path / "a.jsonl").write_text(lines(*({**row, "ended": value} for value in (True, False, None, 1, 2)), row))
    found = parse_sources([SourceConfig(path=str(tmp_path / "a.jsonl"))], "unpaired", PrepareConfig())
    assert [each.get("ended") for each in found.rows] == [True, False, None, True, None]
    assert dict(+found.dropped) == {"not_a_boolean": 1}


def test_checks_in_a_table_of_text_are_kept(parse):
    text = 'prompt\tinstructions\nq\t"[{""id"": ""a:b"", ""kwargs"": {}}]"\nr\t\n'
    assert parse("p.tsv", text, "prompts", format="trl") == (2, {})


FLIPPED = bytearray(gzip.compress(lines(*GOOD).encode()))
FLIPPED[30] ^= 0xFF
FILES = [
    ("a.jsonl.gz", bytes(FLIPPED), "not a whole gzip file"),
    ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], "not a whole gzip file"),
    ("a.json", "null", "it holds null, and no rows"),
    ("a.json", "5", "it holds 5"),
    ("a.json", '"text"', "it holds"),
    ("a.json", "[" * 100_000, "not JSON"),
    ("a.json", '[{"a": 1, "a": 2}]', "the key 'a' is there twice"),
    ("a.jsonl", "", "the file is empty"),
    ("a.csv", "a,a\n1,2\n", "two columns are called 'a'"),
    ("a.csv", b"\xffab\n1\n", "not text with the names"),
    ("a.txt", b"caf\xe9", "not_utf8"),
    ("a.parquet", b"PAR1" + b"\0" * 90 + b"PAR1", "cannot be read"),
    ("a.arrow", b"ARROW1\0\0" + b"\xff" * 99, "cannot be read"),
    ("a.jsonl", "5\nnull\n", "not_a_row"),
    ("a.xyz", "x", "unknown kind of file"),
]


@pytest.mark.parametrize(("name", "content", "what"), FILES, ids=[f"{name}-{what}" for name, _, what in FILES])
def test_a_file_that_is_not_what_its_name_says_is_one_message(parse, name, content, what):
    with pytest.raises(DataError) as error:
        parse(name, content)
    assert what in str(error.value) and error.value.exit_status == 2 and len(str(error.value)) < 600


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_time_that_no_date_can_hold_breaks_its_row_alone(tmp_path, suffix):
    table = pa.table(
        {
            **{name: [row[name] for row in GOOD] for name in PAIR},
            "time": pa.array([2**60, *[0] * 29], pa.timestamp("ms")),
        }
    )
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    kept = parse_sources([SourceConfig(path=str(path))], "preferences", PrepareConfig())
    assert len(kept.rows) == 29 and kept.dropped["unreadable_value"] == 1


@pytest.mark.parametrize(
    "files",
    [
        {"state.json": "{"},
        {"state.json": "null", "dataset_info.json": "null"},
        {"state.json": "{}", "dataset_info.json": "{}"},
        {"dataset_dict.json": "5"},
        {"dataset_dict.json": '{"splits": 5}'},
        {"dataset_dict.json": '{"splits": ["../x"]}'},
    ],
)
def test_a_damaged_data_set_of_datasets_is_one_message(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="not a data set that datasets can load"):
        parse_sources([SourceConfig(path=str(tmp_path))], "preferences", PrepareConfig())


def test_a_pipe_or_device_is_never_opened(tmp_path, store):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", "/dev/zero"):
        with pytest.raises(DataError, match="neither a file nor a folder"):
            parse_sources([SourceConfig(path=str(path))], "preferences", PrepareConfig())
        with pytest.raises(UserError, match="neither a file nor a folder"):
            ContentDigests(store.root).of("path", str(path))
    with pytest.raises(DataError, match="no regular file"):
        parse_sources([SourceConfig(path=str(tmp_path))], "preferences", PrepareConfig())


def test_a_file_name_that_is_not_utf8_is_refused_where_it_is_read_and_where_it_enters_the_key(tmp_path, store):
    with open(os.fsencode(tmp_path) + b"/rows\xff.jsonl", "w") as file:
        file.write(lines(*GOOD))
    for path in (tmp_path, tmp_path / "*.jsonl"):
        with pytest.raises(DataError, match="is not UTF-8 text"):
            parse_sources([SourceConfig(path=str(path))], "preferences", PrepareConfig())
        with pytest.raises(AlignflowError, match="is not UTF-8 text"):
            ContentDigests(store.root).of("path", str(path))
