"""A packed file is unpacked whatever its name says; one of another kind is named as what it is."""

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.sources.packing import PACKED, not_whole, open_file
from alignflow.data.sources.reading import read_rows

LINES = b'{"prompt": "a"}\n' * 50
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


@pytest.fixture
def read(tmp_path):
    def read_it(name, content):
        (tmp_path / name).write_bytes(content)
        return list(read_rows(SourceConfig(path=str(tmp_path / name))))

    return read_it


@pytest.mark.parametrize("suffix", PACKED)
def test_every_way_to_pack_gives_the_rows_and_so_does_one_that_the_name_hides(read, suffix):
    packed = PACKERS[suffix](LINES)
    assert read(f"rows.jsonl{suffix}", packed) == read("rows.jsonl", packed) == [{"prompt": "a"}] * 50
    assert read("rows.JSONL" + suffix.upper(), packed * 2) == [{"prompt": "a"}] * 100


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("change", [lambda packed: packed[:-9], lambda packed: LINES, lambda packed: packed[:5]])
def test_one_that_is_cut_or_is_none_is_refused_and_not_read_in_part(read, suffix, change):
    with pytest.raises(DataError, match="not a whole|cannot be read"):
        read(f"rows.jsonl{suffix}", change(PACKERS[suffix](LINES)))


@pytest.mark.parametrize(
    ("start", "what"),
    [(b"PAR1", "a Parquet file.*in .parquet"), (b"PK\x03\x04", "a zip archive"), (b"%PDF-", "a PDF")],
)
def test_a_file_of_another_kind_is_named(read, start, what):
    with pytest.raises(DataError, match=f"(?s)it is {what}"):
        read("rows.jsonl", start + b"\0\1\n" * 9)


def test_a_text_that_begins_as_another_kind_does_is_a_text(read):
    assert read("rows.txt", b"PAR1 is a word.\n") == [{"text": "PAR1 is a word."}]


def test_an_error_names_the_way_of_packing(tmp_path):
    assert "not a whole xz file (cut)" in str(not_whole(tmp_path, ".xz", EOFError("cut")))
    (tmp_path / "a.txt").write_bytes(b"plain")
    with open_file(tmp_path / "a.txt", ".txt", "") as file:
        assert file.read() == b"plain"
