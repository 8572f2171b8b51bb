"""A sweep's table and picture."""

from dataclasses import dataclass, field

from alignflow.data.report.sweep import COLUMNS, cells, markdown, picture


@dataclass
class Member:
    method: str = "dpo"
    family: str = "pairs"
    learning_rate: float = 1e-5
    metrics: dict = field(default_factory=dict)
    seconds: float | None = 12.4
    error: str = ""


FOUND = {
    "eval_rewards/accuracies": 0.75,
    "win_rate/rubric:reader": 0.6,
    "win_rate/rubric:reader/low": 0.5,
    "win_rate/rubric:reader/high": 0.7,
    "kl": 2.5,
    "tokens_mean/aligned": 30.0,
    "tokens_mean/sft": 20.0,
}


def test_a_row_has_the_familys_measure_win_rate_kl_length_and_seconds():
    assert cells(Member(metrics=FOUND)) == [
        "dpo",
        "pairs",
        "1e-05",
        "0.750",
        "rubric:reader 0.600 (0.5-0.7)",
        "2.5",
        "30 / 20",
        "12",
    ]


def test_single_answers_have_the_rewards_of_good_and_bad_ones():
    assert (
        cells(Member("kto", "unpaired", metrics={"eval_rewards/chosen": 0.5, "eval_rewards/rejected": -1.0}))[3]
        == "0.5 / -1"
    )


def test_what_is_missing_is_empty_and_an_error_stands_in_the_row():
    assert cells(Member(seconds=None)) == ["dpo", "pairs", "1e-05", "", "", "", "", ""]
    assert cells(Member(error="the loss is nan"))[3] == "the loss is nan" and len(cells(Member(error="x"))) == len(
        COLUMNS
    )


def test_the_table_is_markdown_of_one_shape():
    lines = markdown("mine", [Member(metrics=FOUND), Member(error="a|b")]).splitlines()
    assert lines[0] == "# Sweep mine" and len(lines) == 6
    assert all(line.replace("\\|", "").count("|") == len(COLUMNS) + 1 for line in lines[2:])


def test_the_picture_has_the_members_with_reward_and_kl_and_is_none_without_any():
    image = picture([Member(metrics=FOUND), Member("kto", metrics=FOUND), Member(error="x")])
    assert image.startswith(b"\x89PNG") and image == picture(
        [Member(metrics=FOUND), Member("kto", metrics=FOUND), Member(error="x")]
    )
    assert picture([Member(error="x"), Member()]) is None
