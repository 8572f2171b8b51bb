"""The format is the one in which most of the first rows can become what is wanted."""

import json

import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.parsing import parse_sources
from alignflow.data.records import assistant, user
from alignflow.data.sources.detect import detect, kinds_of

CHAT = [*user("q"), *assistant("a")]
BINARIZED = {
    "prompt": "q",
    "messages": CHAT,
    "chosen": CHAT,
    "rejected": [*user("q"), *assistant("b")],
    "score_chosen": 8.0,
    "score_rejected": 3.0,
}
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
GUANACO = {"text": "### Human: One. Two.### Assistant: a"}


@pytest.fixture
def source(tmp_path):
    """Write rows to a file; returns the source."""

    def write(*rows, **more):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return SourceConfig(path=str(path), **more)

    return write


@pytest.mark.parametrize(
    ("rows", "kind", "name"),
    [
        ([BINARIZED], "preferences", "trl"),
        ([BINARIZED], "demonstrations", "messages"),
        ([BINARIZED], None, "messages"),
        ([GUANACO], "demonstrations", "transcript"),
        ([GUANACO], "texts", "text"),
        ([{"text": "One. Two."}], "texts", "text"),
        ([{"messages": []}, PAIR], "preferences", "trl"),
        ([{"messages": "x", **PAIR}], None, "trl"),
        ([{"messages": CHAT, "prompt": "q", "completion": "a", "label": True}], "unpaired", "messages"),
        ([{"instruction": "q", "output": ["a", "b"]}], "preferences", "comparison"),
        ([{"instruction": "q", "output": "a"}], "demonstrations", "alpaca"),
        ([{"message_id": "1", "parent_id": None, "text": "One? Two.", "role": "prompter"}], "demonstrations", "oasst"),
    ],
)
def test_rows_vote_for_what_they_can_become(rows, kind, name):
    assert detect(rows, "file", kind) == name


def test_pairs_that_also_have_messages_are_pairs(source):
    kept = parse_sources([source(BINARIZED)], "preferences", PrepareConfig())
    assert (
        kept.rows[0]["rejected"] == assistant("b")
        and kept.rows[0]["score_chosen"] == 8.0
        and kept.formats == {"rows.jsonl": "trl"}
    )
    assert "preferences" in kinds_of(source(BINARIZED))


def test_a_format_that_no_row_can_be_read_in_is_told_with_its_reasons(source):
    with pytest.raises(
        DataError,
        match=r"as demonstrations \(images 1; an example of images: rows.jsonl: row 1: messages: .*\n.*read as messages",
    ):
        parse_sources([source({"messages": CHAT, "images": ["0.jpg"]})], "demonstrations", PrepareConfig())


@pytest.mark.parametrize("kind", ["demonstrations", "prompts"])
def test_plain_text_gives_answers_only_where_its_format_is_named(source, kind):
    with pytest.raises(DataError, match="plain text.*\n.*format: text"):
        parse_sources([source({"text": "One. Two."})], kind, PrepareConfig())
    assert len(parse_sources([source({"text": "One. Two."}, format="text")], kind, PrepareConfig()).rows) == 1
    assert kinds_of(source({"text": "One. Two."})) == ["texts"]
    assert kind in kinds_of(source(GUANACO))


def test_a_prompter_s_text_is_no_answer_even_where_the_format_is_named_text(source):
    with pytest.raises(DataError, match="one_turn_of_several 1"):
        parse_sources(
            [source({"message_id": "1", "parent_id": None, "text": "One? Two.", "role": "prompter"}, format="text")],
            "demonstrations",
            PrepareConfig(),
        )
