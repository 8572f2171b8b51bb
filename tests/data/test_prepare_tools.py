"""Rows with tools go through `prepare` whole: into the tables, or out with the reason."""

import json

import pytest
from chat_template_support import TOKENIZERS
from tool_template_support import TOOL_TOKENIZERS

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.inspection import inspect_source, rendered_rows
from alignflow.data.prepare import prepare
from alignflow.data.records import is_held_out, read_table
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Run, Runtime

TOWNS = ("Bern", "Oslo", "Rome", "Kyiv", "Lima", "Baku", "Doha", "Riga", "Suva", "Male", "Nuuk", "Apia")
LONG = "Gives the weather of a town as a short text, for today or for one of the next days, with wind and rain where they are known."
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": LONG,
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}


def raw(town):
    call = {
        "id": "call00001",
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"town": town})},
    }
    turns = [
        {"role": "user", "content": f"And {town}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "content": f"rain {town.upper()}"},
        {"role": "assistant", "content": f"It rains in {town}."},
    ]
    return {"messages": turns, "tools": [TOOL]}


@pytest.fixture
def prepared(tmp_path):
    """Prepare the rows with the tokenizer of a family; returns the payload and the statistics of a kind."""

    def run_it(tokenizer, kind="demonstrations", made=raw, **fields):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(made(town)) + "\n" for town in TOWNS))
        tokenizer.save_pretrained(tmp_path / "tokenizer")
        places = {place: tmp_path / place for place in ("out", "side", "work", "rows")}
        for place in places.values():
            place.mkdir()
        config = PrepareConfig(
            **{kind: (SourceConfig(path=str(tmp_path / "rows.jsonl")),)},
            max_length=2048,
            max_prompt_length=2048,
            **fields,
        )
        prepare(config, tokenizer=tmp_path / "tokenizer", run=Run(**places, runtime=Runtime()))
        return places["out"], json.loads((places["out"] / "statistics.json").read_text())["tables"]

    return run_it


@pytest.mark.parametrize("kind", ["demonstrations", "prompts"])
def test_rows_under_one_long_tool_are_kept_with_it(prepared, kind):
    payload, statistics = prepared(TOOL_TOKENIZERS["qwen3", "byte-level"], kind, heldout_fraction=0.3)
    assert statistics[kind]["kept"] == len(TOWNS) and not statistics[kind]["dropped"]
    rows = [row for side in ("train", "heldout") for row in read_table(payload / kind / f"{side}.parquet")]
    assert all((row.get("messages") or row["prompt"])[0]["tools"] == [TOOL] for row in rows)
    assert all(turn["name"] == "weather" for row in rows for turn in row.get("messages", ()) if turn["role"] == "tool")
    assert "<tools>" in json.loads((payload / "samples.json").read_text())[kind][0]


def test_an_evaluation_prompt_with_the_same_tool_contaminates_only_itself(prepared, tmp_path):
    def asked(town):
        return {"prompt": [{"role": "user", "content": f"And {town}?"}], "tools": [TOOL]}

    (tmp_path / "evaluation.jsonl").write_text(json.dumps(asked("Bern")))
    evaluation = (SourceConfig(path=str(tmp_path / "evaluation.jsonl")),)
    _, statistics = prepared(
        TOOL_TOKENIZERS["qwen3", "byte-level"], "prompts", asked, evaluation=evaluation, decontaminate_ngram=8
    )
    assert statistics["prompts"]["kept"] == len(TOWNS) - 1 and statistics["prompts"]["dropped"] == {"contaminated": 1}


ASKED = "Please tell me whether it will rain tomorrow in the beautiful old town of {} near the lake"


def test_an_evaluation_question_contaminates_rows_that_call_a_tool_for_it(prepared, tmp_path):
    def made(town):
        turns = raw(town)["messages"]
        return {"messages": [{"role": "user", "content": ASKED.format(town)}, *turns[1:]], "tools": [TOOL]}

    asked = [made(town) for town in TOWNS[:3]]
    known = [
        {"prompt": asked[0]["messages"][:1], "tools": [TOOL]},
        {"prompt": asked[1]["messages"][:3], "tools": [TOOL]},
        {"prompt": ASKED.format("Rome")},
    ]
    (tmp_path / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    evaluation = (SourceConfig(path=str(tmp_path / "evaluation.jsonl")),)
    _, statistics = prepared(
        TOOL_TOKENIZERS["qwen3", "byte-level"],
        made=made,
        evaluation=evaluation,
        decontaminate_ngram=16,
        near_duplicate_threshold=1.0,
        max_dropped_fraction=0.5,
    )
    assert statistics["demonstrations"]["dropped"] == {"contaminated": 3}


def test_an_earlier_question_of_a_conversation_contaminates_it_too(prepared, tmp_path):
    def made(town):
        turns = raw(town)["messages"]
        return {
            "messages": [
                *turns,
                {"role": "user", "content": f"Thanks {town}"},
                {"role": "assistant", "content": f"Welcome {town}"},
            ],
            "tools": [TOOL],
        }

    known = [
        {"prompt": raw("Bern")["messages"][:1], "tools": [TOOL]},
        {"prompt": raw("Oslo")["messages"][:3], "tools": [TOOL]},
    ]
    (tmp_path / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    evaluation = (SourceConfig(path=str(tmp_path / "evaluation.jsonl")),)
    _, statistics = prepared(
        TOOL_TOKENIZERS["qwen3", "byte-level"],
        made=made,
        evaluation=evaluation,
        decontaminate_ngram=0,
        max_dropped_fraction=0.5,
    )
    assert statistics["demonstrations"]["dropped"] == {"contaminated": 2}


def test_calls_and_results_move_no_row_to_the_other_side_of_the_split(prepared):
    payload, _ = prepared(TOOL_TOKENIZERS["qwen3", "byte-level"], heldout_fraction=0.5)
    sides = {
        side: {row["messages"][0]["content"] for row in read_table(payload / "demonstrations" / f"{side}.parquet")}
        for side in ("train", "heldout")
    }
    fields = [{"role": "user", "content": f"And {town}?", "tools": [TOOL]} for town in TOWNS]
    assert sides["train"] and sides["heldout"]
    assert sides["heldout"] == {turn["content"] for turn in fields if is_held_out([turn], 0.5)}


def test_a_template_without_tools_drops_the_rows_with_the_reason(prepared):
    with pytest.raises(DataError, match="tools_not_in_template 12"):
        prepared(TOKENIZERS["qwen2.5", "byte-level"])


def test_inspection_shows_which_tokens_of_a_row_with_tools_are_learnt(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(raw("Bern")))
    TOOL_TOKENIZERS["qwen2.5", "byte-level"].save_pretrained(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    found = inspect_source(SourceConfig(path=str(tmp_path / "rows.jsonl")), "demonstrations")
    assert found.error is None and found.warnings == []
    (sides,) = rendered_rows(tokenizer, found.counted.rows, [])
    given = sides[""]
    text = tokenizer.decode([token for token, counts in zip(given.ids, given.supervised, strict=True) if counts])
    assert (
        text
        == '<tool_call>\n{"name": "weather", "arguments": {"town": "Bern"}}\n</tool_call><|im_end|>It rains in Bern.<|im_end|>'
    )
