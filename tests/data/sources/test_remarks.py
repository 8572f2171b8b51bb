"""What is said of rows that are kept: figures against a pair's order, words for nothing, prompts that look like transcripts."""

import json

import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.inspection import inspect_source
from alignflow.data.parsing import parse_sources
from alignflow.data.records import assistant, user
from alignflow.data.sources.remarks import REMARKS, is_filler, remarks_of

PAIR = {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}


@pytest.mark.parametrize(
    ("figures", "wanted"),
    [
        ({}, []),
        ({"score_chosen": 2.0, "score_rejected": 1.0, "margin": 1.0, "soft_label": 0.9}, []),
        ({"score_chosen": 1.0, "score_rejected": 5.0}, ["scores_against"]),
        ({"score_chosen": 1.0, "score_rejected": None}, []),
        ({"score_chosen": 3.0, "score_rejected": 3.0}, ["scores_equal"]),
        ({"margin": -0.5}, ["scores_against"]),
        ({"margin": 0.0}, ["scores_equal"]),
        ({"soft_label": 0.2}, ["scores_against"]),
        ({"score_chosen": 2.0, "score_rejected": 1.0, "soft_label": 0.4}, ["scores_against"]),
    ],
)
def test_figures_that_prefer_the_rejected_answer_or_none_are_told(figures, wanted):
    assert remarks_of({}, {**PAIR, **figures}) == wanted


@pytest.mark.parametrize("word", ["nan", "None", "null", "<noinput>", "No input", "N/A"])
def test_a_word_for_nothing_is_no_input_and_is_counted(tmp_path, word):
    rows = [
        {"instruction": "Tell a joke.", "input": word, "output": "Ha."},
        {"instruction": "a", "input": "b", "output": "c"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    kept = parse_sources([SourceConfig(path=str(tmp_path / "rows.jsonl"))], "demonstrations", PrepareConfig())
    assert kept.rows[0]["messages"][0]["content"] == "Tell a joke." and kept.remarks == {"filler_input": 1}
    assert is_filler(word) and not is_filler("nano") and not is_filler("") and not is_filler(None)


@pytest.mark.parametrize(
    ("prompt", "is_told"),
    [
        ("Below is an instruction.\n\n### Instruction:\nhi\n\n### Response:", True),
        ("A chat between two people. USER: hi ASSISTANT:", True),
        ("**Human:** hi\n\n**Assistant:**", True),
        ("Who is the best assistant: you?", False),
        ("User: hi\nAssistant:", False),
    ],
)
def test_a_prompt_that_is_open_for_an_answer_and_no_transcript_is_told(tmp_path, prompt, is_told):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": prompt, "completion": "yo"}))
    found = inspect_source(SourceConfig(path=str(tmp_path / "rows.jsonl")), "demonstrations")
    assert found.warnings == ([f"1 {REMARKS['open_prompt']}"] if is_told else [])
