"""Symbolic links: followed once, refused where they lead in a circle, and called by their own names."""

import json
import os

import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.loading import parse_recipe
from alignflow.data.errors import AlignflowError, DataError
from alignflow.data.sources.files import inside
from alignflow.data.sources.reading import chosen_files, read_rows
from alignflow.tasks.keys.content import ContentDigests


def lines(*prompts):
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)


def prompts(path, **source):
    return "".join(row["prompt"] for row in read_rows(SourceConfig(path=str(path), **source)))


@pytest.fixture
def hub(tmp_path):
    """A data set as the Hub's cache keeps it: files under digests, and links with names to them."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "0f3a").write_text(lines("a", "b"))
    (snapshot / "data.jsonl").symlink_to("../../blobs/0f3a")
    return snapshot


def test_a_link_of_the_hubs_cache_is_read_under_its_own_name(hub):
    assert prompts(hub / "data.jsonl") == prompts(hub) == prompts(hub / "*.jsonl") == "ab"


def test_a_recipe_keeps_the_name_of_a_link_to_a_file_and_follows_one_to_a_folder(hub, tmp_path):
    (tmp_path / "newest").symlink_to(hub)
    recipe = parse_recipe(
        {"data": {"prompts": [{"path": "newest/data.jsonl"}, {"path": "newest"}]}}, tmp_path, "recipe.yaml"
    )
    assert [source.path for source in recipe.data.prompts] == [str(hub / "data.jsonl"), str(hub)]


def test_a_link_without_a_suffix_is_what_it_leads_to(tmp_path):
    (tmp_path / "rows.jsonl").write_text(lines("a"))
    (tmp_path / "current").symlink_to("rows.jsonl")
    assert prompts(tmp_path / "current") == "a"


@pytest.mark.parametrize("pattern", ["", "**/*.jsonl"])
def test_a_link_to_a_folder_is_followed_and_its_files_enter_the_key(tmp_path, store, pattern):
    (tmp_path / "data").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "1.jsonl").write_text(lines("a"))
    (tmp_path / "data" / "2.jsonl").write_text(lines("b"))
    (tmp_path / "data" / "1").symlink_to("../far")
    path = tmp_path / "data" / pattern
    before = ContentDigests(store.root).of("path", str(path))
    assert prompts(path) == "ab"
    (tmp_path / "far" / "1.jsonl").write_text(lines("c"))
    assert prompts(path) == "cb" and ContentDigests(store.root).of("path", str(path)) != before


@pytest.mark.parametrize("pattern", ["", "**/*.jsonl"])
@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_that_leads_back_is_refused_where_it_is_read_and_where_it_enters_the_key(
    tmp_path, store, target, pattern
):
    place = tmp_path / "data" / "deep"
    place.mkdir(parents=True)
    (place / "1.jsonl").write_text(lines("a"))
    (place / "again").symlink_to(target)
    for look in (prompts, lambda path: ContentDigests(store.root).of("path", str(path))):
        with pytest.raises(AlignflowError, match="leads back to a folder that it lies in"):
            look(tmp_path / "data" / pattern)


@pytest.mark.parametrize("pattern", ["", "*.jsonl"])
def test_a_link_to_itself_is_refused_or_no_file(tmp_path, pattern):
    (tmp_path / "1.jsonl").symlink_to("2.jsonl")
    (tmp_path / "2.jsonl").symlink_to("1.jsonl")
    with pytest.raises(DataError, match="no regular file|no data file there"):
        prompts(tmp_path / pattern)


def test_what_two_links_lead_to_is_read_once_and_the_second_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines("a"))
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    assert prompts(tmp_path) == "a"
    assert chosen_files(SourceConfig(path=str(tmp_path))).left_out == {"b.jsonl": "the same file as a.jsonl"}


def test_many_links_between_folders_are_walked_once_each(tmp_path):
    """Two links from each of twenty folders to the next would be a million ways."""
    for number in range(20):
        (tmp_path / "far" / str(number)).mkdir(parents=True)
        (tmp_path / "far" / str(number) / "rows.jsonl").write_text(lines(chr(97 + number)))
    for number in range(19):
        for name in ("left", "right"):
            (tmp_path / "far" / str(number) / name).symlink_to(f"../{number + 1}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "start").symlink_to("../far/0")
    assert sorted(prompts(tmp_path / "data")) == [chr(97 + number) for number in range(20)]


def test_what_a_models_folder_links_to_is_no_part_of_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "self").symlink_to(".")
    (tmp_path / "model" / "config.json").write_text("{}")
    assert list(inside(tmp_path / "model", links=False)) == ["config.json"]


def test_a_folder_that_cannot_be_read_is_refused_and_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    (tmp_path / "rows.jsonl").write_text(lines("a"))
    names = os.listdir

    def listed(place):
        if place.name == "secret":
            raise PermissionError(13, "Permission denied")
        return names(place)

    monkeypatch.setattr(os, "listdir", listed)
    with pytest.raises(DataError, match="secret: the folder cannot be read: Permission denied"):
        prompts(tmp_path)
