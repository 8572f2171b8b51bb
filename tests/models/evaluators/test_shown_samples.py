"""The samples of an evaluation: the clearest wins and losses, random rows by the seed, and all that was said of them."""

import json
import math
from types import SimpleNamespace

import pytest

from alignflow.models.evaluators.base import Answer
from alignflow.models.evaluators.shown_samples import LOSS, RANDOM, WIN, Seen, chosen, shown_samples, verdict_rows
from alignflow.models.judges.base import IDENTICAL, Verdict

IDS = [f"p{n}" for n in range(40)]


def inputs(count):
    prompts = [{"id": IDS[n], "prompt": [{"role": "user", "content": str(n)}]} for n in range(count)]
    answers = {model: [Answer(f"{model} {n}", True, 2) for n in range(count)] for model in ("aligned", "sft")}
    return SimpleNamespace(prompts=prompts, answers=answers)


def test_a_quarter_are_the_clearest_wins_a_quarter_the_clearest_losses_and_the_rest_is_random():
    clearness = [((n - 20) / 100, 0.0) for n in range(40)]
    found = chosen(IDS, clearness, 20, 0)
    kinds = {kind: sorted(index for index, why in found.items() if why == kind) for kind in (WIN, LOSS, RANDOM)}
    assert kinds[WIN] == [35, 36, 37, 38, 39] and kinds[LOSS] == [0, 1, 2, 3, 4]
    assert len(kinds[RANDOM]) == 10 and set(kinds[RANDOM]) < set(range(5, 35))


def test_the_seed_decides_which_others_are_shown_and_the_same_seed_shows_the_same():
    first, again, other = (chosen(IDS, [], 10, seed) for seed in (1, 1, 2))
    assert first == again and set(first) != set(other) and set(first.values()) == {RANDOM}


def test_scores_decide_between_probabilities_that_are_equal():
    clearness = [(0.5, 1.0), (0.5, 3.0), (-0.5, -2.0), (-0.5, -1.0), None, None, None, None]
    found = chosen(IDS[:8], clearness, 4, 0)
    assert found[1] == WIN and found[2] == LOSS


def test_fewer_wins_than_a_quarter_leave_room_for_random_rows():
    found = list(chosen(IDS, [(0.3, 0.0), *[None] * 39], 20, 0).values())
    assert (found.count(WIN), found.count(LOSS), found.count(RANDOM)) == (1, 0, 19)


@pytest.mark.parametrize("number", [0, 3, 60])
def test_no_more_are_shown_than_asked_for_or_there(number):
    assert len(chosen(IDS, [(0.1, 0.0)] * 40, number, 0)) == min(number, 40)


@pytest.mark.parametrize(
    ("labelling", "judges", "rewards", "by"),
    [
        (True, ("made", "other"), {}, "other"),
        (True, ("made",), {}, "made"),
        (False, ("first", "second"), {}, "first"),
        (False, (), {"aligned": [1.0], "sft": [0.0]}, "reward model"),
        (False, (), {}, ""),
    ],
)
def test_who_says_what_is_clear(labelling, judges, rewards, by):
    assert Seen(4, 0, labelling, {judge: [] for judge in judges}, rewards).by == by


def test_a_sample_has_the_verdict_of_each_judge_and_the_scores():
    verdicts = {
        "made": [Verdict(None, reason="no answer")] * 8,
        "other": [Verdict(0.9, (3.0, 1.0), (0.9, 0.9), rationales=("because", ""))]
        + [Verdict(0.506, orders=(0.912, 0.1))]
        + [Verdict(0.1, orders=(0.1, 0.1))]
        + [Verdict(None, reason=IDENTICAL)] * 5,
    }
    rewards = {"aligned": [math.nan] + [1.0] * 7, "sft": [0.5] * 8}
    samples, how = shown_samples(inputs(8), Seen(8, 5, True, verdicts, rewards))
    assert how == {"by": "other", "seed": 5, "prompts": 8, "picked": {WIN: 1, LOSS: 1, RANDOM: 6}}
    by_id = {sample["id"]: sample for sample in samples}
    won = by_id["p0"]
    assert (won["picked"], won["aligned"], won["sft"]) == (WIN, "aligned 0", "sft 0")
    assert [found["better"] for found in won["verdicts"]] == ["", "aligned"]
    assert won["verdicts"][1]["scores"] == {"aligned": 3.0, "sft": 1.0} and won["verdicts"][1]["rationales"] == [
        "because"
    ]
    assert won["rewards"] == {"aligned": None, "sft": 0.5}, "a score that is not finite is no JSON"
    assert by_id["p1"]["picked"] == RANDOM and by_id["p1"]["verdicts"][1]["better"] == "tie", (
        "it changes with the order"
    )
    assert by_id["p2"]["picked"] == LOSS and by_id["p3"]["verdicts"][1]["better"] == "tie"
    json.dumps(samples, allow_nan=False)


def test_the_reward_model_chooses_where_no_judge_compared():
    rewards = {"aligned": [0.0, 5.0, math.inf, 1.0], "sft": [4.0, 1.0, 0.0, 1.0]}
    samples, how = shown_samples(inputs(4), Seen(4, 0, False, rewards=rewards))
    assert {sample["id"]: sample["picked"] for sample in samples} == {"p1": WIN, "p0": LOSS, "p2": RANDOM, "p3": RANDOM}
    assert how["by"] == "reward model"


def test_the_table_has_each_judge_on_each_prompt():
    verdicts = {"a": [Verdict(0.7, orders=(0.8, 0.6))] * 2, "b": [Verdict(None, reason="x", principle="short")] * 2}
    rows = list(verdict_rows(inputs(2).prompts, verdicts))
    assert [(row["judge"], row["id"], row["given"], row["reason"]) for row in rows] == [
        ("a", "p0", 0.8, ""),
        ("a", "p1", 0.8, ""),
        ("b", "p0", None, "x"),
        ("b", "p1", None, "x"),
    ]
    assert rows[2]["principle"] == "short"
