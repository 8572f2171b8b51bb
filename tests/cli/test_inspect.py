"""`alignflow inspect` as a person sees it, and as a program reads it."""

import json
import os
import subprocess
import sys
import time

import pytest
from run_support import record_run
from tests_support import as_artifact, small_tokenizer
from typer.testing import CliRunner

from alignflow.cli import inspect as command
from alignflow.cli.app import app
from alignflow.cli.inspected import show
from alignflow.cli.terminal import Console
from alignflow.data.column_uses import Uses
from alignflow.data.errors import AlignflowError, DataError, ModelError, UserError
from alignflow.data.inspection import Inspection, Rendered
from alignflow.data.parsing import Kept
from alignflow.data.records import assistant, user, write_table
from alignflow.data.rendering import load_tokenizer
from alignflow.data.reward_ensembles import write_ensemble
from alignflow.tasks.store.pins import GATE, live_pins

PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_tokenizer(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "".join(json.dumps({**PAIR, "prompt": f"Why {number}?", "topic": "brevity"}) + "\n" for number in range(5))
    )
    return file


def inspect(*arguments):
    """Run the command in this process; returns its output, and raises its error."""
    done = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    if isinstance(done.exception, AlignflowError):
        done.exception.printed = done.stdout
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_person_sees_format_columns_counts_and_rows(pairs):
    shown = lines(inspect(pairs, "-n", 2))
    assert "format trl, read as preferences (--as: demonstrations, prompts, texts)" in shown
    assert "column prompt -> prompt: user" in shown and "warning topic: not used" in shown
    assert "rows kept 5 of 5" in shown
    assert "prompt user Why 0?" in shown and "chosen assistant So." in shown and "row 2: source pairs.jsonl" in shown
    assert not any(line.startswith("row 3") for line in shown)


def test_supervised_tokens_have_a_mark_of_their_own_without_colour(pairs, model):
    shown = lines(inspect(pairs, "--model", model, "-n", 1))
    assert "+ supervised tokens, | other tokens; ␣ space, ⏎ line end" in shown
    first = next(index for index, line in enumerate(shown) if line.startswith("chosen:"))
    assert shown[first + 1].startswith("| <|user|> W h y ␣ 0") and shown[first + 1].endswith("<|end|> <|assistant|>")
    assert shown[first + 2] == "+ S o . <|end|>"
    assert (
        shown[first + 3].startswith("rejected:")
        and shown[first + 4].startswith("| (as above,")
        and shown[first + 5] == "+ N o . <|end|>"
    )


def test_supervised_tokens_are_in_colour_on_a_terminal(tmp_path, model):
    rows = [{"id": "1", "source": "a.jsonl", "messages": [*user("a"), *assistant("b")]}]
    found = Inspection("demonstrations", ["demonstrations"], "alpaca", Kept(rows, 1))
    with open(tmp_path / "out", "w+") as out:
        tokenizer = load_tokenizer(model)
        ids = tokenizer("ab")["input_ids"]
        show(
            Console(file=out, force_terminal=True, color_system="standard"),
            "a.jsonl",
            found,
            1,
            tokenizer,
            [{"": Rendered(ids, [False, True])}],
        )
        out.seek(0)
        shown = out.read()
    assert "\x1b[32m  + b\x1b[0m" in shown and "\x1b[32m  | a" not in shown and "  | a" in shown


def test_the_middle_of_a_long_run_is_counted_and_its_ends_are_shown(tmp_path, model):
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "first" + "x" * 500 + "last", "completion": "b"}))
    shown = lines(inspect(tmp_path / "long.jsonl", "--model", model))
    total = int(next(line for line in shown if line.endswith("2 supervised")).split()[0])
    (between,) = [line for line in shown if "more tokens" in line]
    assert int(between.split()[2]) == total - 2 - 120
    text = "".join(line.lstrip("| ").replace(" ", "") for line in shown if line.startswith("|"))
    assert text.startswith("<|user|>first") and text.endswith("xlast<|end|><|assistant|>")
    long = json.loads(inspect(tmp_path / "long.jsonl", "--model", model, "--json"))
    assert len(long["rows"][0]["ids"]) == total


def test_json_is_one_object(pairs, model):
    found = json.loads(inspect(pairs, "--json", "--model", model, "-n", 1, "--as", "demonstrations", "--max-length", 4))
    assert (found["format"], found["read"], found["kept"], found["dropped"]) == ("trl", 5, 5, {})
    assert found["warnings"] == ["rejected, topic: not used", "over 4 tokens, prompt and answer together: 5 of 5 rows"]
    (row,) = found["rows"]
    assert row["messages"][1]["content"] == "So."
    assert [token for token, flag in zip(row["tokens"], row["supervised"], strict=True) if flag] == [
        "S",
        "o",
        ".",
        "<|end|>",
    ]
    assert len(row["ids"]) == len(row["tokens"])


def test_an_example_of_each_reason_is_shown(tmp_path):
    kept = Kept(rows=[], read=3, formats={"a": "trl"}, examples={"empty": "line 7: {}"})
    kept.dropped.update(["empty", "empty", "tie"])
    with open(tmp_path / "out", "w+") as out:
        show(Console(file=out), "a.jsonl", Inspection("preferences", [], "trl", kept, Uses()), 3, None, [])
        out.seek(0)
        shown = lines(out.read())
    assert "rows kept 0 of 3: 2 empty, 1 tie" in shown and "dropped empty, such as line 7: {}" in shown


def test_a_call_of_a_tool_is_shown_beside_the_text(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "weather"}]}
    rows = [{"id": "1", "source": "a.jsonl", "messages": [*user("a"), call]}]
    with open(tmp_path / "out", "w+") as out:
        show(Console(file=out), "a.jsonl", Inspection("demonstrations", [], "messages", Kept(rows, 1)), 1, None, [])
        out.seek(0)
        shown = lines(out.read())
    assert "messages user a" in shown and 'assistant {"tool_calls": [{"name": "weather"}]}' in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_where_nothing_can_be_used_what_is_known_comes_before_the_message(pairs, as_json):
    with pytest.raises(DataError, match="not one row can be used as unpaired") as raised:
        inspect(pairs, "--as", "unpaired", *(["--json"] if as_json else []))
    printed = raised.value.printed
    if as_json:
        found = json.loads(printed)
        assert (found["format"], found["read"], found["kept"], found["dropped"], found["rows"]) == (
            "trl",
            5,
            0,
            {"missing_column": 5},
            [],
        )
        assert any("not one row can be used as unpaired" in warning for warning in found["warnings"])
    else:
        assert "rows kept 0 of 5: 5 missing_column" in lines(printed) and "not one row" not in printed
        assert "columns prompt, chosen, rejected, topic" in lines(printed)


def test_the_command_line_ends_with_status_2_and_keeps_stdout_for_the_object(tmp_path):
    environment = {**os.environ, "ALIGNFLOW_HOME": str(tmp_path / "none")}
    arguments = [sys.executable, "-m", "alignflow", "inspect", "./nowhere.jsonl", "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2 and "no such file" in done.stderr and "Traceback" not in done.stderr
    assert "no such file" in json.loads(done.stdout)["warnings"][0]
    assert not (tmp_path / "none").exists(), "looking at a file makes no store"


def test_data_cannot_steer_the_terminal(tmp_path, model):
    text = "\x1b[2J\u202e[bold]x"
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": text, "completion": "b", text: "c"}))
    for arguments in ([], ["--model", model], ["--json"]):
        shown = inspect(tmp_path / "a.jsonl", *arguments)
        assert "\x1b" not in shown and "\u202e" not in shown
    assert "\\x1b[2J\\u202e[bold]x" in inspect(tmp_path / "a.jsonl")


@pytest.fixture
def prepared(store, tmp_path):
    """An artifact with two tables; its payload."""
    for kind, row in {
        "demonstrations": {"messages": [*user("a"), *assistant("b")]},
        "prompts": {"prompt": user("c")},
    }.items():
        write_table([{"id": "1", "source": "a.jsonl", **row}], kind, tmp_path / "made" / kind / "train.parquet")
    return as_artifact(tmp_path / "made", store.root, "prepare-1", "dataset")


def test_an_artifact_is_looked_at_by_its_key_or_its_place(prepared, model):
    for reference in ("prepare-", prepared, prepared.parent):
        found = json.loads(inspect(reference, "--json", "--model", model))
        assert (found["kind"], found["kept"]) == ("demonstrations", 1) and any(found["rows"][0]["supervised"])
    for arguments in (["prepare-", "--as", "prompts"], [prepared / "prompts"]):
        assert json.loads(inspect(*arguments, "--json"))["rows"][0]["prompt"] == user("c")


def test_the_last_data_of_a_run_is_no_table_of_log_probabilities(prepared, store, tmp_path):
    (tmp_path / "logps").mkdir()
    as_artifact(tmp_path / "logps", store.root, "reference-1", "dataset")
    record_run(store, {step: store.manifest(f"{step}-1") for step in ("prepare", "reference")})
    assert json.loads(inspect("last", "--json"))["kept"] == 1


def test_the_bare_name_of_a_run_hides_no_source_of_its_name(prepared, store, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "inspect_source", lambda source, _: asked.append(source.path) or 1 / 0)
    record_run(store, {"prepare": store.manifest("prepare-1")}, "squad")
    with pytest.raises(ZeroDivisionError):
        command._inspected("squad", "", {})
    assert asked == ["squad"] and json.loads(inspect("squad~0", "--json"))["kept"] == 1


def test_an_artifact_is_pinned_while_it_is_read(prepared, store, monkeypatch):
    pinned = []
    whole = command.inspect_table

    def watched(*arguments):
        with store.lock(GATE):
            pinned.append(live_pins(store))
        return whole(*arguments)

    monkeypatch.setattr(command, "inspect_table", watched)
    inspect("prepare-")
    inspect(prepared)
    assert pinned == [{"prepare-1"}, {"prepare-1"}]


def test_the_model_may_be_one_of_the_store(pairs, model, store):
    as_artifact(model, store.root, "sft-12")
    with_key = inspect(pairs, "--model", "sft-1")
    assert with_key == inspect(pairs, "--model", model) and "+ S o . <|end|>" in with_key


def test_the_tokenizer_of_an_ensemble_is_that_of_its_first_member(pairs, model, tmp_path):
    write_ensemble(tmp_path, [model, model], "mean", 0.1)
    assert inspect(pairs, "--model", tmp_path) == inspect(pairs, "--model", model)


def test_what_is_no_data_or_no_model_is_refused(pairs, prepared, model, store, tmp_path):
    as_artifact(model, store.root, "sft-12")
    with pytest.raises(UserError, match="sft-12 is a checkpoint, not a dataset"):
        inspect("sft-12")
    by_step, by_key = (inspect(name, "--as", "prompts").partition("\n") for name in ("prepare", "prepare-1"))
    assert by_step[2] == by_key[2], "a step means the newest"
    with pytest.raises(UserError, match="prepare-1 is a dataset, not a checkpoint or reward_model"):
        inspect(pairs, "--model", "prepare-1")
    with pytest.raises(UserError, match="no artifact matches 'prepare-9'"):
        inspect("prepare-9")
    with pytest.raises(ModelError, match="this is a file, not the directory of a model"):
        inspect(pairs, "--model", pairs)
    with pytest.raises(UserError, match="no table 'unpaired'"):
        inspect("prepare-1", "--as", "unpaired")
    with pytest.raises(UserError, match="counting tokens needs a model's tokenizer"):
        inspect(pairs, "--max-length", 5)


def test_what_takes_long_is_said_on_stderr_and_what_is_quick_is_not(capsys, monkeypatch):
    monkeypatch.setattr(command, "QUIET_S", 0.05)
    with command.patience("reading a.jsonl"):
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert err == "reading a.jsonl: 0 s\n" and out == ""
    monkeypatch.setattr(command, "QUIET_S", 5)
    with command.patience("reading a.jsonl"):
        pass
    assert capsys.readouterr().err == ""


def test_the_example_of_the_docs_is_what_the_command_prints(repository):
    shown = inspect(repository / "examples" / "quickstart" / "demonstrations.jsonl.gz", "-n", 0)
    documented = lines((repository / "docs" / "data.md").read_text())
    assert all(line in documented for line in lines(shown)[1:]) and len(lines(shown)) == 6


def test_a_column_may_be_given_another_name(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"data": {"question": "Why?"}, "answer": "So."}) + "\n")
    shown = lines(
        inspect(
            tmp_path / "a.jsonl",
            "--as",
            "demonstrations",
            "--column",
            "prompt=data.question",
            "--column",
            "completion=answer",
        )
    )
    assert "rows kept 1 of 1" in shown
    with pytest.raises(UserError, match="names no column"):
        inspect(tmp_path / "a.jsonl", "--column", "prompt")
