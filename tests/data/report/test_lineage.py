"""The picture of the lineage: a row for each artifact, and beside it lines that lead from what it takes."""

import re

import pytest
from tests_support import as_artifact

from alignflow.data.artifacts import ArtifactRef, read_manifest
from alignflow.data.report.body import FinishedStep
from alignflow.data.report.lineage import BROUGHT, FOUND, LANE, MADE, OUTSIDE, lineage_picture


@pytest.fixture
def run(tmp_path, store):
    """Makes the steps of a run from step -> the steps that it takes; a name with a dash is an artifact of another run."""

    def make(steps, stages=None, config=None):
        made = []
        for name, takes in steps.items():
            folder = tmp_path / name
            folder.mkdir()
            (folder / "file").write_text(name)
            keys = [take if "-" in take else f"{take}-1234567890ab" for take in takes]
            inputs = {take: ArtifactRef(kind="x", key=key, digest="d") for take, key in zip(takes, keys, strict=True)}
            step = FinishedStep(name, as_artifact(folder, store.root, f"{name}-1234567890ab", inputs=inputs))
            step.manifest = step.manifest.model_copy(
                update={"stage": (stages or {}).get(name, name), "config": (config or {}).get(name, {})}
            )
            made.append(step)
        return made

    return make


def lines(svg):
    """(x1, x2, y1, y2) of each line of a row."""
    return [found.groups() for found in re.finditer(r'x1="(\d+)" x2="(\d+)" y1="(\w+%?)" y2="(\w+%?)"', svg)]


def marks(svg):
    return re.findall(r'<(circle|rect) [^>]*stroke="', svg)


def test_each_artifact_is_a_row_that_says_what_it_takes(run):
    picture = lineage_picture(run({"init": [], "prepare": ["init"], "sft": ["init", "prepare"]}))
    assert [(row.name, row.key, row.takes) for row in picture.rows] == [
        ("init", "init-12345678", ()),
        ("prepare", "prepare-12345678", ("init",)),
        ("sft", "sft-12345678", ("init", "prepare")),
    ]


def test_a_line_goes_from_an_artifact_down_to_the_last_row_that_takes_it(run):
    picture = lineage_picture(run({"init": [], "prepare": ["init"], "sft": ["init", "prepare"]}))
    first, second, third = (lines(row.svg) for row in picture.rows)
    assert first == [("7", "7", "15", "100%")], "it starts at the mark"
    assert ("7", "7", "0", "100%") in second and ("7", "22", "15", "15") in second, "it passes, and sends a branch"
    assert ("7", "7", "0", "15") in third, "it ends at the mark of what takes it last"


def test_the_place_of_a_line_that_ended_is_used_again_so_that_long_chains_stay_narrow(run):
    chain = {"init": []} | {f"align.{n}": [f"align.{n - 1}" if n > 1 else "init"] for n in range(1, 30)}
    assert lineage_picture(run(chain)).width == LANE


def test_members_of_an_ensemble_have_a_line_each(run):
    members = {f"reward.{n}": ["label"] for n in range(1, 6)}
    picture = lineage_picture(run({"label": [], **members, "reward": list(members)}))
    assert picture.width == 5 * LANE, "the last member goes on where the line of the labels ends"
    assert picture.rows[-1].takes == tuple(members)


def test_what_was_made_found_and_brought_has_a_mark_and_a_word(run):
    steps = run(
        {"sft": [], "label": ["sft"], "align": ["label"]}, stages={"sft": "init"}, config={"sft": {"path": "<b>m</b>"}}
    )
    picture = lineage_picture(steps, found=["sft", "label"])
    assert [(row.state, row.source) for row in picture.rows] == [(BROUGHT, "<b>m</b>"), (FOUND, ""), (MADE, "")]
    assert [marks(row.svg)[-1] for row in picture.rows] == ["rect", "circle", "circle"]
    assert 'fill="Canvas"' in picture.rows[1].svg and 'fill="Canvas"' not in picture.rows[2].svg
    assert list(picture.legend) == [MADE, FOUND, BROUGHT]


def test_an_artifact_that_the_run_did_not_make_is_shown_by_its_key(run):
    picture = lineage_picture(run({"align": ["label-99999999aaaa"]}))
    assert [(row.name, row.state) for row in picture.rows] == [("label-99999999", OUTSIDE), ("align", MADE)]
    assert picture.rows[1].takes == ("label-99999999",)


def test_a_step_outside_a_store_has_no_row(tmp_path):
    assert lineage_picture([FinishedStep("sft", tmp_path)]).rows == ()


def test_two_parts_of_one_artifact_are_one_line(run):
    (prepare, sft) = run({"prepare": [], "sft": ["prepare"]})
    key = read_manifest(prepare.path.parent).key
    parts = {part: ArtifactRef(kind="x", key=key, digest="d", part=part) for part in ("demonstrations", "general")}
    sft.manifest = sft.manifest.model_copy(update={"inputs": parts})
    assert lineage_picture([prepare, sft]).rows[1].takes == ("prepare",)
