"""A text file gives the same rows in UTF-8, UTF-16 and UTF-32, with a mark and without; bytes that are no text are never replaced."""

import codecs
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.sources.decoding import encoding_of
from alignflow.data.sources.reading import BrokenLine, read_rows

ROWS = [{"text": "Once there was a dog."}, {"text": "Ça va? 你好 🎉"}]
FILES = {
    "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
    "json": json.dumps(ROWS, ensure_ascii=False),
    "csv": "text\n" + "".join(row["text"] + "\n" for row in ROWS),
    "txt": "\n\n".join(row["text"] for row in ROWS),
}
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def read(path, content):
    path.write_bytes(content)
    return list(read_rows(SourceConfig(path=str(path))))


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("marked", [True, False])
def test_every_encoding_gives_the_same_rows(tmp_path, kind, encoding, marked, packed):
    content = (MARKS[encoding] if marked else b"") + FILES[kind].encode(encoding)
    assert read(tmp_path / f"rows.{kind}{packed}", gzip.compress(content) if packed else content) == ROWS


def test_a_mark_within_a_file_that_was_put_together_is_no_part_of_a_row(tmp_path):
    line = codecs.BOM_UTF8 + b'{"a": 1}\n'
    assert read(tmp_path / "rows.jsonl", line * 3) == [{"a": 1}] * 3


def test_a_file_in_utf16_that_ends_within_a_character_is_refused(tmp_path):
    with pytest.raises(DataError, match="it is no UTF-16 text"):
        read(tmp_path / "rows.txt", codecs.BOM_UTF16_LE + "Once there was".encode("utf-16-le")[:-1])


@pytest.mark.parametrize("content", [b"a\xd8b\xd8", b"a\xd8"])
def test_half_a_pair_of_utf16_is_refused_and_not_replaced(tmp_path, content):
    with pytest.raises(DataError, match="it is no UTF-16 text"):
        read(tmp_path / "rows.txt", codecs.BOM_UTF16_LE + content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.txt", b"good\n\nbad \xe9\n\n"),
        ("rows.csv", b"text\ngood\nbad \xe9\n"),
        ("rows.jsonl", b'{"text": "good"}\n{"text": "bad \xe9"}\n'),
    ],
)
def test_a_line_that_is_not_utf8_is_broken_and_the_others_are_read(tmp_path, name, content):
    found = read(tmp_path / name, content)
    assert [row for row in found if isinstance(row, dict)] == [{"text": "good"}]
    assert [line.reason for line in found if isinstance(line, BrokenLine)] == ["not_utf8"]


@given(st.text(st.characters(min_codepoint=1, exclude_categories=("Cs",))))
def test_a_text_in_utf8_is_never_taken_for_another_encoding(text):
    mark, encoding = encoding_of(text.encode())
    assert encoding == "utf-8" and mark == (codecs.BOM_UTF8 if text.startswith("\ufeff") else b"")


@given(st.sampled_from(sorted(MARKS)), st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=2))
def test_a_text_of_plain_letters_needs_no_mark(encoding, text):
    assert encoding_of(text.encode(encoding))[1] == encoding
