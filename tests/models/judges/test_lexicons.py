"""Lexicon files: words and values."""

import pytest

from alignflow.data.errors import DataError
from alignflow.models.judges.lexicons import read_lexicon


def written(folder, text):
    (folder / "words.txt").write_bytes(text)
    return str(folder / "words.txt")


def test_a_word_without_a_value_counts_1_and_comments_and_blank_lines_nothing(tmp_path):
    found = read_lexicon(written(tmp_path, b"# mood\nGood\t2.5\n\n bad\t-1\nfine\n"))
    assert dict(found) == {"good": 2.5, "bad": -1.0, "fine": 1.0}
    with pytest.raises(TypeError):
        found["more"] = 1.0


@pytest.mark.parametrize(
    ("text", "said"), [(b"# only\n", "no words"), (b"good\tmuch\n", "line 1"), (b"\xff\xfe", "cannot be read")]
)
def test_what_is_no_lexicon_is_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_lexicon(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_lexicon(str(tmp_path / "nothing"))
