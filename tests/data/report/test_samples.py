"""The samples of the report: how they were chosen is said, and each judge's verdict stands beside its figures."""

import pytest

from alignflow.data.report.samples import OF_AN_OLDER_VERSION, by_kind, choice_text, verdict_rows

JUDGES = {"helpful": {"made_the_labels": True}, "reader": {"made_the_labels": False}}


def how(wins, losses, others, by="reader"):
    picked = {"clearest win": wins, "clearest loss": losses, "random": others}
    return {"by": by, "seed": 3, "prompts": 1200, "picked": picked}


def verdict(**changes):
    found = {
        "judge": "reader",
        "better": "aligned",
        "probability": 0.75,
        "orders": [0.8, 0.7],
        "flips": False,
        "scores": {"aligned": 2.0, "sft": 1.0},
        "reason": "",
        "rationales": [],
    }
    return {**found, **changes}


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (
            how(5, 5, 10),
            "20 of 1,200 prompts: the 5 clearest wins and the 5 clearest losses of the aligned model by reader, which did not make "
            "the labels; 10 more at random by the seed 3. No sample was chosen by its text.",
        ),
        (
            how(1, 0, 0, by="helpful"),
            "1 of 1,200 prompts: the clearest win and no clearest loss of the aligned model by helpful, which made the labels. "
            "No sample was chosen by its text.",
        ),
        (
            how(0, 0, 4, by=""),
            "4 of 1,200 prompts, chosen at random by the seed 3: no judge and no reward model compared the answers.",
        ),
        (None, OF_AN_OLDER_VERSION),
    ],
)
def test_how_the_samples_were_chosen(chosen, text):
    assert choice_text(chosen, JUDGES) == text


def test_the_reward_model_may_choose_where_there_is_no_judge():
    assert "of the aligned model by reward model; 2 more" in choice_text(how(1, 1, 2, by="reward model"), {})


def test_wins_stand_before_losses_and_what_an_older_alignflow_kept_has_its_own_heading():
    samples = [{"picked": "random", "n": 1}, {"picked": "clearest loss", "n": 2}, {"picked": "clearest win", "n": 3}]
    assert [(title, [each["n"] for each in group]) for title, group in by_kind([*samples, {"n": 4}])] == [
        ("Clearest wins", [3]),
        ("Clearest losses", [2]),
        ("Random prompts", [1]),
        ("First prompts", [4]),
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "aligned is better"),
        ({"better": "sft"}, "SFT is better"),
        ({"better": "tie", "flips": True}, "tie: the preference changes with the order"),
        ({"better": "tie", "reason": "identical", "probability": None}, "tie: identical"),
        ({"better": "", "reason": "no score"}, "no label: no score"),
        ({"better": ""}, "no label: no reason is known"),
    ],
)
def test_a_verdict_is_said_in_words(changes, text):
    assert verdict_rows({"verdicts": [verdict(**changes)]})[0]["verdict"] == text


def test_figures_of_a_verdict_and_scores_of_the_reward_model():
    judge, reward = verdict_rows({"verdicts": [verdict()], "rewards": {"aligned": -1.5, "sft": 0.25}})
    assert (judge["who"], judge["probability"], judge["orders"]) == ("reader", "0.75", "0.8 / 0.7")
    assert (judge["aligned"], judge["sft"]) == ("2", "1")
    assert (reward["who"], reward["verdict"], reward["aligned"], reward["sft"]) == (
        "reward model",
        "SFT is better",
        "-1.5",
        "0.25",
    )


def test_what_was_not_measured_is_a_dash():
    found = verdict(probability=None, orders=[0.5, None], scores={"aligned": None, "sft": None}, better="")
    (judge, reward) = verdict_rows({"verdicts": [found], "rewards": {"aligned": None, "sft": 1.0}})
    assert {judge["probability"], judge["orders"], judge["aligned"], judge["sft"]} == {"–"}
    assert reward["verdict"] == "no score"
    assert verdict_rows({"prompt": [], "aligned": "a", "sft": "b"}) == []
