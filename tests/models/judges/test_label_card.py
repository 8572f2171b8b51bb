"""The card of a labelled data set says who labelled it and how sure that is; it has no path, and equal labels have equal cards."""

import pytest
import yaml

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.records import assistant, user, write_table
from alignflow.models.judges.label_card import write_label_card

NONE = {"rate": None, "low": None, "high": None, "hits": 0, "trials": 0}
HALF = {"rate": 0.5, "low": 0.25, "high": 0.75, "hits": 5, "trials": 10}
STATISTICS = {
    "judged": 12,
    "dropped": {"tie": 2},
    "flips": NONE,
    "first_position": HALF,
    "longer_wins": HALF,
    "labellers": {"human": 3, "llm": 7},
}
PAIR = {"id": "1", "source": "t", "prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}


def card(path, options=None, **more):
    write_table([PAIR], "preferences", path / "preferences" / "train.parquet")
    config = LabelConfig(judge={"name": "llm", "options": options or {}}, mix="override")
    write_label_card(config, "abc123", {**STATISTICS, **more}, path, path, None)
    return (path / "README.md").read_text()


def test_it_tells_the_judge_its_prompt_and_what_was_measured(tmp_path):
    text = card(tmp_path)
    for line in (
        "- judge: llm, version",
        "- digest of the judge's prompt and model: abc123",
        "- left out: 2 tie",
        "- changes with the order: not measured",
        "- first position wins: 50.0% of 10 (95% interval 25.0% to 75.0%)",
        "- pairs by labeller: human 3, llm 7",
    ):
        assert line in text
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "preferences/train.parquet"}]
    assert header["tags"] == ["alignflow", "preference", "rlaif"] and header["license"] == "unknown"


def test_it_tells_how_far_people_agree_where_they_labelled_too(tmp_path):
    found = card(tmp_path, human_agreement=HALF, mixed={"given": 3, "both": 2})
    assert (
        "- agreement of the judge with people: 50.0% of 10" in found
        and "3, 2 of them labelled by the judge too" in found
    )
    assert "people" not in card(tmp_path / "other")


@pytest.mark.parametrize("place", ["/home/me/model", "prompts/mine.j2", "mine.j2"])
def test_no_place_of_a_file_is_in_it(place, tmp_path):
    of_member = {"judges": [{"name": "llm", "options": {"model": place}}]}
    assert place not in card(tmp_path / "jury", of_member)
    text = card(tmp_path, {"prompt": place, "max_length": 512})
    assert place not in text and "(its content)" in text and "512" in text
