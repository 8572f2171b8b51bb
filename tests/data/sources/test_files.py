"""A source may be a folder or a pattern: every data file that is not hidden, in the order of names."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.loading import parse_recipe
from alignflow.data.errors import DataError, UserError
from alignflow.data.sources.files import is_pattern
from alignflow.data.sources.reading import read_rows
from alignflow.tasks.keys.content import ContentDigests


def lines(*prompts):
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)


@pytest.fixture
def folder(tmp_path):
    """Prompts a to f in files of several kinds, and what is none of them."""
    place = tmp_path / "prompts"
    (place / "later").mkdir(parents=True)
    (place / "1.jsonl").write_text(lines("a", "b"))
    with gzip.open(place / "2.jsonl.gz", "wt") as file:
        file.write(lines("c"))
    pq.write_table(pa.table({"prompt": ["d"]}), place / "3.parquet")
    (place / "4.csv").write_text("prompt\ne\n")
    (place / "later" / "5.jsonl").write_text(lines("f"))
    (place / ".6.jsonl").write_text('{"prompt": "half')
    (place / "README.md").write_text("prompts of November")
    (place / "old.tar.gz").write_bytes(b"no data")
    return place


def prompts(path):
    return "".join(row["prompt"] for row in read_rows(SourceConfig(path=str(path))))


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [("", "abcdef"), ("*.jsonl", "ab"), ("*.jsonl*", "abc"), ("**/*.jsonl", "abf"), ("[34].*", "de"), ("later/*", "f")],
)
def test_a_folder_and_a_pattern_give_the_rows_of_their_files_in_order(folder, pattern, wanted):
    assert prompts(folder / pattern) == wanted


@pytest.mark.parametrize("pattern", ["*.json", "nowhere/*.jsonl"])
def test_a_pattern_that_matches_nothing_is_refused(folder, pattern, store):
    with pytest.raises(DataError, match="no data file there"):
        prompts(folder / pattern)
    with pytest.raises(UserError, match="no file matches"):
        ContentDigests(store.root).of("path", str(folder / pattern))


@pytest.mark.parametrize("pattern", ["", "*.jsonl"])
def test_a_new_file_changes_what_enters_the_key_and_a_hidden_one_does_not(folder, pattern, store):
    def digest():
        return ContentDigests(store.root).of("path", str(folder / pattern))

    before = digest()
    (folder / ".0.jsonl").write_text(lines("z"))
    assert digest() == before
    (folder / "0.jsonl").write_text(lines("z"))
    after = digest()
    assert after != before
    (folder / "0.jsonl").write_text(lines("y"))
    assert digest() not in (before, after)


def test_the_digest_of_a_pattern_says_nothing_of_the_place(folder, store, tmp_path):
    moved = folder.rename(tmp_path / "elsewhere")
    same = ContentDigests(store.root).of("path", str(moved / "*.jsonl"))
    moved.rename(folder)
    assert ContentDigests(store.root).of("path", str(folder / "*.jsonl")) == same


def test_a_pattern_of_a_recipe_starts_at_its_directory(folder):
    recipe = parse_recipe({"data": {"prompts": [{"path": "prompts/*.jsonl"}]}}, folder.parent, "recipe.yaml")
    assert recipe.data.prompts[0].path == str(folder / "*.jsonl")


def test_a_chat_template_with_brackets_is_no_pattern(tmp_path):
    text = "{% for message in messages[0:] %}{{ message.content }}{% endfor %}"
    assert parse_recipe({"model": {"chat_template": text}}, tmp_path, "recipe.yaml").model.chat_template == text


def test_a_file_whose_name_has_brackets_is_a_file(tmp_path):
    (tmp_path / "prompts[1].jsonl").write_text(lines("a"))
    assert not is_pattern(str(tmp_path / "prompts[1].jsonl")) and prompts(tmp_path / "prompts[1].jsonl") == "a"
