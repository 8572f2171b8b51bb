"""Prepare at any size: the artifact is the same wherever chunks end and however many processes work, and memory does not grow with the rows."""

import gc
import json
import random

import pytest
from tests_support import small_tokenizer

from alignflow.data import chunk_parsing, measuring, parsing, records, row_workers
from alignflow.data import prepare as prepare_module
from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.errors import DataError, ModelError
from alignflow.data.prepare import prepare
from alignflow.data.records import read_table
from alignflow.data.run import Run, Runtime

WORDS = [f"w{number}" for number in range(300)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """120 chats: equal and nearly equal ones, over-long ones, weights, system turns, broken lines, rows without an answer."""
    draw = random.Random(0)

    def text(low, high):
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    made = []
    for number in range(120):
        answer = {"role": "assistant", "content": text(3, 30) if number % 17 else text(400, 500)}
        system = [{"role": "system", "content": "be kind to all who ask"}] if number % 3 == 0 else []
        turns = [*system, {"role": "user", "content": text(3, 20)}, answer]
        if number % 11 == 0:
            turns += [
                {"role": "user", "content": text(2, 5)},
                {"role": "assistant", "content": text(2, 5), "weight": 0},
            ]
        made.append({"messages": turns} | ({"late": 1} if number > 100 else {}))
        if number % 5 == 4:
            made.append(json.loads(json.dumps(made[draw.randrange(len(made))])))
        if number % 9 == 8:
            made.append({"messages": [*turns[:-1], {**turns[-1], "content": turns[-1]["content"] + " more"}]})
        if number % 19 == 0:
            made.append({"messages": [{"role": "user", "content": "?"}]})
    path = tmp_path_factory.mktemp("source") / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in made[:60])
        + "{\n"
        + "".join(json.dumps(row) + "\n" for row in made[60:])
    )
    return path


@pytest.fixture
def run_it(tmp_path, tokenizer, source, monkeypatch):
    def run(name, chunk_rows=1000, processes=1, few=row_workers.FEW, **fields):
        monkeypatch.setattr(chunk_parsing, "CHUNK_ROWS", chunk_rows)
        monkeypatch.setattr(row_workers, "FEW", few)
        monkeypatch.setattr(prepare_module, "usable_cores", lambda: 8)
        places = {place: tmp_path / name / place for place in ("out", "side", "work", "rows")}
        for place in places.values():
            place.mkdir(parents=True)
        given = {"demonstrations": [{"path": str(source)}], "near_duplicate_threshold": 0.7, **fields}
        run = Run(**places, runtime=Runtime(threads=processes))
        metrics = prepare(PrepareConfig.model_validate(given), tokenizer=tokenizer, run=run)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["out", "rows", "side", "work"], (
            "the rows on disk are gone"
        )
        return {each: file_digest(places["out"] / each) for each in payload_files(places["out"])}, metrics, run.warnings

    return run


def test_the_artifact_does_not_depend_on_where_chunks_end(run_it, source):
    whole = run_it("whole")
    assert {reason.rpartition("/")[2] for reason in whole[1]} >= {
        "duplicate",
        "near_duplicate",
        "over_long",
        "not_json",
        "no_answer",
    }
    assert [run_it(f"chunks-{size}", size) for size in (1, 7, 50)] == [whole] * 3


@pytest.mark.parametrize("fields", [{"max_rows": 40}, {"weight": 0.6}, {"weight": 0.7, "max_rows": 30}])
def test_a_cap_and_a_weight_choose_the_same_rows_wherever_chunks_end(run_it, source, fields):
    given = {"demonstrations": [{"path": str(source), **fields}]}
    assert run_it("whole", **given) == run_it("chunks", 7, **given)


def test_the_artifact_does_not_depend_on_the_number_of_processes(run_it):
    one = run_it("one", 20)
    assert run_it("processes", 20, 3, few=1) == one


def test_equal_rows_of_two_chunks_are_found_and_a_chunk_of_which_nothing_is_left_is_no_harm(run_it, tmp_path):
    path = tmp_path / "twice.jsonl"
    rows = [
        {"prompt": f"what is {WORDS[number]} {number}?", "completion": f"it is {number} {WORDS[-number]}"}
        for number in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *[{"prompt": "", "completion": ""}] * 10, *rows]))
    _, metrics, _ = run_it("twice", 10, demonstrations=[{"path": str(path)}])
    assert (
        metrics["demonstrations/kept"],
        metrics["demonstrations/dropped/duplicate"],
        metrics["demonstrations/dropped/empty"],
    ) == (30, 30, 10)


def test_an_error_of_a_process_is_the_error_of_the_stage_and_leaves_no_rows_on_disk(
    run_it, tmp_path, tokenizer, monkeypatch
):
    def lost(path):
        raise ModelError("no tokenizer", where=str(path))

    with monkeypatch.context() as patched, pytest.raises(ModelError, match="no tokenizer"):
        patched.setattr(measuring, "load_tokenizer", lost)
        run_it("lost", 20)
    with pytest.raises(DataError, match="no demonstrations are left"):
        run_it("dropped", 20, max_length=8, max_prompt_length=4)
    assert not list(tmp_path.glob("*/spool"))


def test_rows_of_a_few_chunks_alone_are_held_at_a_time(run_it, tmp_path, monkeypatch):
    path = tmp_path / "many.jsonl"
    with open(path, "w") as file:
        for number in range(300):
            turns = [
                {"role": "user", "content": f"{number} {WORDS[number]}"},
                {"role": "assistant", "content": f"{WORDS[-number]} {number}"},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    alive = []

    def counting(function):
        def counted(*arguments):
            alive.append(sum(type(each) is dict and "messages" in each for each in gc.get_objects()))
            return function(*arguments)

        return counted

    monkeypatch.setattr(parsing, "parse_chunk", counting(parsing.parse_chunk))
    monkeypatch.setattr(prepare_module, "measure_file", counting(prepare_module.measure_file))
    gc.collect()
    gc.freeze()  # what was there before is neither counted nor looked at, 60 times
    try:
        _, metrics, _ = run_it("many", 10, demonstrations=[{"path": str(path)}])
    finally:
        gc.unfreeze()
    assert metrics["demonstrations/kept"] > 250 and len(alive) > 60
    assert 0 < max(alive) <= 60


def test_a_table_of_several_groups_is_read_back_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "GROUP_ROWS", 4)
    monkeypatch.setattr(records, "PIECE", 2)
    rows = [{"id": str(number), "source": "s", "text": "x" * number} for number in range(11)]
    assert records.write_table(iter(rows), "texts", tmp_path / "rows.parquet", weighted=False) == 11
    assert read_table(tmp_path / "rows.parquet") == rows
