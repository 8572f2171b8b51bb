"""A sweep's table and picture."""

from dataclasses import dataclass, field

from alignflow.data.report.sweep import COLUMNS, by_family, cells, doubts, markdown, page, picture


@dataclass
class Member:
    method: str = "dpo"
    family: str = "pairs"
    learning_rate: float = 1e-5
    seed: int | None = None
    metrics: dict = field(default_factory=dict)
    seconds: float | None = 12.4
    error: str = ""
    not_learnt: str = ""
    rounds: int = 1


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


def test_the_measure_of_a_training_in_rounds_says_that_it_is_the_last_ones():
    assert cells(Member("sdpo", metrics=FOUND, rounds=3))[3] == "0.750 (round 3 alone)"
    assert cells(Member("sdpo", rounds=3))[3] == ""


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


def test_a_seed_stands_beside_the_method():
    assert cells(Member(seed=3))[0] == "dpo seed 3"


def test_members_stand_by_family_and_in_it_as_they_came():
    found = [Member("kto", "unpaired"), Member("simpo"), Member("lipo", "lists"), Member("dpo")]
    assert [member.method for member in by_family(found)] == ["simpo", "dpo", "kto", "lipo"]
    lines = markdown("mine", found).splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["simpo", "dpo", "kto", "lipo"]


def test_a_member_that_did_not_learn_is_named_under_the_table():
    found = [
        Member(),
        Member("kto", "unpaired", not_learnt="the loss did not fall: 1 in the first quarter, 2 in the last"),
    ]
    (doubt,) = doubts(found)
    assert doubt.startswith("kto at 1e-05 may not have learnt: the loss did not fall")
    assert markdown("mine", found).endswith(f"\n\n- **Warning:** {doubt}\n")
    assert "**Warning:** kto at 1e" in page("mine", found, 3)


def test_a_page_says_how_far_it_is_and_shows_the_picture_and_no_links():
    found = [Member(metrics=FOUND), Member("kto", error="[x](https://example.invalid)")]
    shown = page("mine", found, 5)
    assert "2 of 5 members ended, 1 of them without a result." in shown and "(data:image/png;base64," in shown
    assert "[x](https" not in shown and shown.count("![") == 1
