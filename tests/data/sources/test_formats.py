"""Every format: raw rows in, rows of our tables out, and a counted reason for each row that cannot be used."""

import pytest

from alignflow.data import catalogue
from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.detect import detect

CHAT = [*user("q"), *assistant("a")]
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
TRANSCRIPT = "\n\nHuman: q\n\nAssistant: a"

ROWS = [
    ("messages", "demonstrations", {"messages": CHAT}, {"messages": CHAT}),
    ("messages", "prompts", {"messages": CHAT}, {"prompt": user("q")}),
    (
        "messages",
        "unpaired",
        {"messages": CHAT, "label": False},
        {"prompt": user("q"), "completion": assistant("a"), "label": False},
    ),
    ("sharegpt", "demonstrations", {"conversations": SHAREGPT}, {"messages": CHAT}),
    (
        "sharegpt",
        "demonstrations",
        {"conversations": SHAREGPT, "system": "s"},
        {"messages": [{"role": "system", "content": "s"}, *CHAT]},
    ),
    (
        "sharegpt",
        "demonstrations",
        {"conversations": [{"from": "<|x|>user<|y|>", "value": "q"}, SHAREGPT[1]]},
        {"messages": CHAT},
    ),
    (
        "sharegpt",
        "preferences",
        {
            "conversations": SHAREGPT[:1],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")},
    ),
    ("alpaca", "demonstrations", {"instruction": "q", "input": "", "output": "a"}, {"messages": CHAT}),
    ("alpaca", "prompts", {"instruction": "q", "input": "i", "output": "a"}, {"prompt": user("q\n\ni")}),
    (
        "hh_rlhf",
        "preferences",
        {"chosen": TRANSCRIPT, "rejected": TRANSCRIPT + "bc"},
        {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("abc")},
    ),
    ("hh_rlhf", "demonstrations", {"chosen": TRANSCRIPT}, {"messages": CHAT}),
    (
        "comparison",
        "rankings",
        {"instruction": "q", "output": ["a", "b"]},
        {"prompt": user("q"), "completions": ["a", "b"], "scores": [2.0, 1.0]},
    ),
    (
        "comparison",
        "preferences",
        {"prompt": "q", "responses": [{"text": "b", "score": 1}, {"text": "a", "score": 5}]},
        {"chosen": assistant("a"), "rejected": assistant("b"), "margin": 4.0, "score_chosen": 5.0},
    ),
    (
        "comparison",
        "rankings",
        {"prompt": "q", "answers": [{"text": "a", "rank": 0}, {"text": "b", "rank": 2}]},
        {"scores": [0.0, -2.0]},
    ),
    (
        "comparison",
        "completions",
        {"prompt": "q", "responses": ["a", "b"]},
        {"completions": ["a", "b"], "ended": [True, True]},
    ),
    ("trl", "demonstrations", {"prompt": "q", "completion": "a"}, {"messages": CHAT}),
    (
        "trl",
        "preferences",
        {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")},
        {"chosen": assistant("a"), "rejected": assistant("b")},
    ),
    (
        "trl",
        "preferences",
        {"chosen": CHAT, "rejected": [*user("q"), *assistant("b")]},
        {"prompt": user("q"), "rejected": assistant("b")},
    ),
    (
        "trl",
        "unpaired",
        {"prompt": "q", "completion": "a", "label": True},
        {"completion": assistant("a"), "label": True},
    ),
    ("trl", "rankings", {"prompt": "q", "completions": ["a", "b"], "scores": [1, 2]}, {"scores": [1.0, 2.0]}),
    (
        "trl",
        "prompts",
        {"prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"prompt": user("q"), "instructions": '[{"id": "punctuation:no_comma", "kwargs": {}}]'},
    ),
    (
        "votes",
        "preferences",
        {"prompt": "q", "response_a": "b", "response_b": "a", "preference": "b", "annotator": "anna", "weight": 2},
        {
            "prompt": user("q"),
            "chosen": assistant("a"),
            "rejected": assistant("b"),
            "judge": "human:anna",
            "weight": 2.0,
        },
    ),
    (
        "votes",
        "completions",
        {"prompt": "q", "response_a": "a", "response_b": "b", "preference": "tie"},
        {"completions": ["a", "b"]},
    ),
    ("votes", "prompts", {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "a"}, {"prompt": user("q")}),
    (
        "oasst",
        "demonstrations",
        {"text": "q", "role": "prompter", "replies": [{"text": "a", "role": "assistant", "replies": []}]},
        {"messages": CHAT},
    ),
    ("transcript", "demonstrations", {"text": "### Human: q### Assistant: a"}, {"messages": CHAT}),
    ("text", "texts", {"text": "One. Two."}, {"text": "One. Two."}),
    ("text", "demonstrations", {"text": "One. Two."}, {"messages": [*user("One."), *assistant(" Two.")]}),
]

BAD = [
    ("messages", "demonstrations", {"messages": []}, "empty"),
    ("messages", "demonstrations", {"messages": [*assistant("a"), *user("q")]}, "wrong_role_order"),
    ("messages", "demonstrations", {"messages": user("q")}, "no_answer"),
    ("messages", "demonstrations", {"messages": [{"role": "wizard", "content": "x"}]}, "unknown_role"),
    ("messages", "unpaired", {"messages": CHAT}, "no_label"),
    ("sharegpt", "preferences", {"conversations": SHAREGPT[:1], "chosen": {"value": "a"}}, "missing_column"),
    ("alpaca", "demonstrations", {"instruction": "q", "output": "  "}, "empty"),
    ("alpaca", "demonstrations", {"instruction": 3, "output": "a"}, "not_text"),
    ("hh_rlhf", "preferences", {"chosen": TRANSCRIPT, "rejected": TRANSCRIPT}, "identical_pair"),
    (
        "hh_rlhf",
        "preferences",
        {"chosen": TRANSCRIPT, "rejected": "\n\nHuman: other\n\nAssistant: a"},
        "different_prompts",
    ),
    ("hh_rlhf", "demonstrations", {"chosen": "no transcript"}, "no_transcript"),
    ("comparison", "preferences", {"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]}, "tie"),
    ("comparison", "rankings", {"prompt": "q", "responses": ["a"]}, "not_several_answers"),
    ("comparison", "rankings", {"prompt": "q", "responses": ["a", "b"], "scores": [1]}, "no_scores"),
    ("trl", "preferences", {"prompt": "q", "chosen": "a", "rejected": "a "}, "identical_pair"),
    ("trl", "demonstrations", {"prompt": "q"}, "missing_column"),
    ("votes", "preferences", {"prompt": "q", "response_a": "a", "response_b": "b", "preference": "tie"}, "tie"),
    ("trl", "preferences", {"prompt": "q", "chosen": "a", "rejected": "b", "weight": -1}, "unknown_weight"),
    ("trl", "preferences", {"prompt": "q", "chosen": "a", "rejected": "b", "weight": 0}, "nothing_to_train"),
    ("trl", "preferences", {"prompt": "q", "chosen": "a", "rejected": "b", "confidence": 4}, "no_probability"),
    ("text", "demonstrations", {"text": "One only."}, "one_sentence"),
    ("text", "preferences", {"text": "One. Two."}, "not_of_this_kind"),
]


@pytest.mark.parametrize(("name", "kind", "raw", "wanted"), ROWS)
def test_a_raw_row_becomes_a_row_of_the_table(name, kind, raw, wanted):
    (row,) = catalogue.FORMATS[name].resolve()(raw, kind)
    assert {key: row[key] for key in wanted} == wanted


@pytest.mark.parametrize(("name", "kind", "raw", "reason"), BAD)
def test_a_row_that_cannot_be_used_has_a_reason(name, kind, raw, reason):
    with pytest.raises(RowError) as error:
        catalogue.FORMATS[name].resolve()(raw, kind)
    assert error.value.reason == reason


@pytest.mark.parametrize(("name", "kind", "raw", "_wanted"), [row for row in ROWS if row[0] != "trl"])
def test_the_format_is_found_by_the_columns(name, kind, raw, _wanted):
    found = detect([raw], "file")
    assert found == name or found == "trl" and set(raw) <= {"prompt", "responses", "scores"}


def test_every_kind_that_a_format_states_has_a_row_in_this_table():
    tested = {(name, kind) for name, kind, _, _ in ROWS}
    stated = {(name, kind) for name, row in catalogue.FORMATS.items() for kind in row.kinds}
    untested = stated - tested
    assert untested <= {
        ("alpaca", "preferences"),
        ("hh_rlhf", "prompts"),
        ("sharegpt", "prompts"),
        ("comparison", "prompts"),
        ("text", "prompts"),
        ("comparison", "demonstrations"),
        ("trl", "completions"),
        ("trl", "texts"),
        ("transcript", "prompts"),
        ("alpaca", "unpaired"),
        ("sharegpt", "unpaired"),
        ("oasst", "preferences"),
        ("oasst", "rankings"),
        ("oasst", "prompts"),  # in files of their own
    }
