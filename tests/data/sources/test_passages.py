"""Passages of plain text files."""

import io

import pytest

from alignflow.data.sources import soundness
from alignflow.data.sources.base import BrokenLine
from alignflow.data.sources.passages import passages


def texts(content):
    return [row if isinstance(row, BrokenLine) else row["text"] for row in passages(io.BytesIO(content), "a.txt")]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        (b"one\r\n\r\ntwo", ["one", "two"]),
        (b"one\n \t\ntwo\n\x0c\n\nthree", ["one", "two", "three"]),
        (b"one\rstill one\r\rtwo\r", ["one\nstill one", "two"]),
        (b"one\n\nstill one<|endoftext|>two", ["one\n\nstill one", "two"]),
        (b"\n\n\n\n", []),
        (b"", []),
    ],
)
def test_passages_end_at_the_mark_or_at_blank_lines(content, wanted):
    assert texts(content) == wanted


def test_a_passage_over_the_limit_is_divided_at_line_ends(monkeypatch):
    monkeypatch.setattr(soundness, "MOST_BYTES", 10)
    assert texts(b"four\nfour\nfour\n") == ["four\nfour", "four"]
    assert texts(b"a line over the limit\nx") == ["a line over the limit", "x"], "a long line is a piece by itself"


def test_bytes_that_are_no_text_are_a_broken_line_and_the_rest_is_read():
    broken, text = texts(b"bad \xc3\x28\n\nfine")
    assert isinstance(broken, BrokenLine) and broken.reason == "not_utf8" and text == "fine"
