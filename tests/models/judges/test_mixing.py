"""Pairs of people beside those of a judge: which label stands, what is counted, and how often both agree."""

import json
from collections import Counter

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from alignflow.data.configs.generation import JudgeConfig, LabelConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.models.judges.base import Verdict
from alignflow.models.judges.label import label
from alignflow.models.judges.mixing import human_agreement, join, mixed, read_given
from alignflow.models.judges.pairing import JudgedPair, is_label_held_out

RUBRIC = JudgeConfig(name="rubric")


def pair(prompt, chosen, rejected, **columns):
    return {
        "id": f"{prompt}/{chosen}/{rejected}",
        "source": "t",
        "prompt": user(prompt),
        "chosen": assistant(chosen),
        "rejected": assistant(rejected),
        "chosen_ended": True,
        "rejected_ended": True,
        "soft_label": None,
        "judge": "llm",
        **columns,
    }


def config(**fields):
    return LabelConfig(judge=RUBRIC, **{"mix": "override", **fields})


def test_override_lets_the_label_of_people_stand_and_counts_what_changed():
    judged = [(pair("p", "a", "b"), False), (pair("q", "a", "b"), True), (pair("r", "a", "b"), False)]
    people = [
        pair("p", "B ", "a", judge="human:anna"),
        pair("q", "a", "b", judge="human"),
        pair("s", "x", "y", judge="human"),
    ]
    found = mixed(judged, people, config())
    rows = [*found.train, *found.heldout]
    assert found.counts == {"judged": 3, "given": 3, "both": 2, "changed": 1}
    labellers = {row["prompt"][0]["content"]: row["judge"] for row in rows}
    assert labellers == {"p": "human:anna", "q": "human", "r": "llm", "s": "human"}
    assert found.train[0]["chosen"] == assistant("B ") and found.heldout[0]["judge"] == "human", "in the judge's place"
    assert found.statistics()["labellers"] == {"human": 2, "human:anna": 1, "llm": 1}


def test_every_judged_row_of_a_pair_gives_way_to_the_label_of_people():
    judged = [(pair("p", "a", "b"), False), (pair("p", "A", "b "), False)]
    found = mixed(judged, [pair("p", "b", "a", judge="human")], config())
    assert [row["judge"] for row in found.train] == ["human"] and found.dropped == {"repeated pair": 1}
    assert found.counts == {"judged": 2, "given": 1, "both": 1, "changed": 1}


def test_the_same_choice_in_another_spelling_changes_nothing():
    found = mixed([(pair("p", "a", "b"), False)], [pair("p", "A ", "b", judge="human")], config())
    assert found.counts["both"] == 1 and found.counts["changed"] == 0


def test_a_rationale_for_the_side_that_lost_is_not_kept():
    row = {**pair("p", "a", "b"), "soft_label": 0.6, "rationale": "a is better"}
    turned = join(row, {**pair("p", "a", "b", judge="human"), "soft_label": 0.1})
    assert turned["chosen"] == assistant("b") and turned["rationale"] is None


def test_no_prompt_of_people_stands_on_both_sides():
    people = [pair(f"prompt {number}", "a", "b", judge="human") for number in range(200)]
    found = mixed([], people, config(heldout_fraction=0.3))
    assert found.train and found.heldout
    assert all(is_label_held_out(row["prompt"], 0.3) for row in found.heldout)
    assert not any(is_label_held_out(row["prompt"], 0.3) for row in found.train)


def test_join_is_the_weighted_mean_of_both_labels():
    found = join(pair("p", "a", "b", soft_label=0.75), pair("p", "b", "a", soft_label=1.0, judge="human", weight=3.0))
    assert found["chosen"] == assistant("b") and found["soft_label"] == pytest.approx((0.25 + 3.0) / 4)
    assert found["judge"] == "llm+human" and found["weight"] == 4.0
    agreed = join(pair("p", "a", "b", soft_label=0.75), pair("p", "a", "b", judge="human"))
    assert agreed["chosen"] == assistant("a") and agreed["soft_label"] == pytest.approx(0.875)
    doubted = join(pair("p", "a", "b", soft_label=0.6), pair("p", "a", "b", soft_label=0.2, judge="human", weight=2.0))
    assert doubted["chosen"] == assistant("b") and doubted["soft_label"] == pytest.approx(1 - 1 / 3)


def test_labels_that_cancel_each_other_out_are_no_pair_and_counted():
    found = mixed([(pair("p", "a", "b"), False)], [pair("p", "b", "a", judge="human")], config(mix="join"))
    assert not found.train and not found.heldout and found.dropped == Counter({"tie": 1})


@given_by(st.floats(0.5, 1), st.floats(0.5, 1), st.floats(0.1, 10), st.booleans())
def test_a_joined_label_lies_between_both(own, theirs, weight, turned):
    sides = ("b", "a") if turned else ("a", "b")
    found = join(
        pair("p", "a", "b", soft_label=own), pair("p", *sides, soft_label=theirs, judge="human", weight=weight)
    )
    if found is not None:
        first = found["soft_label"] if found["chosen"] == assistant("a") else 1 - found["soft_label"]
        bounds = sorted((own, 1 - theirs if turned else theirs))
        assert bounds[0] - 1e-9 <= first <= bounds[1] + 1e-9


def test_given_pairs_are_weighed_and_unsure_ones_left_out_and_counted():
    people = [pair("p", "a", "b", judge="human", weight=2.0), pair("q", "a", "b", judge="human", confidence=0.4)]
    judged = [(pair("r", "a", "b", soft_label=0.55), False), (pair("s", "a", "b", soft_label=0.95), False)]
    found = mixed(judged, people, config(given_weight=3.0, min_confidence=0.6))
    rows = {row["prompt"][0]["content"]: row for row in (*found.train, *found.heldout)}
    assert set(rows) == {"p", "s"} and rows["p"]["weight"] == 6.0 and found.dropped == Counter({"low confidence": 2})


def completions(*texts):
    return {"id": "p", "prompt": user("p"), "completions": list(texts)}


def test_agreement_counts_pairs_that_both_have_seen_in_either_order():
    people = [pair("p", "a", "b"), pair("p", "c", "a")]
    row = completions("a", "b", "c")
    judged = [
        (row, JudgedPair(0, 1, Verdict(0.9))),
        (row, JudgedPair(0, 2, Verdict(0.8))),
        (row, JudgedPair(1, 2, Verdict(0.8))),
        (row, JudgedPair(1, 0, Verdict(0.5))),
    ]
    found = human_agreement(judged, people)
    assert (found["pairs"], found["undecided"], found["hits"], found["trials"]) == (3, 1, 1, 2)
    assert found["rate"] == 0.5 and found["low"] < 0.5 < found["high"]
    assert human_agreement([], people)["rate"] is None and human_agreement([], [])["kappa"] is None


def table(path, kind, **sides):
    for side, rows in sides.items():
        write_table(rows, kind, path / f"{side}.parquet")
    return path


def test_the_stage_writes_one_table_that_says_who_labelled(tmp_path, new_run):
    texts = ["The cat sat on the mat and slept.", "the the the the the"]
    rows = [
        {"id": f"c{i}", "source": "t", "prompt": user(f"tell {i}"), "completions": texts, "ended": [True, False]}
        for i in range(12)
    ]
    people = [
        pair(f"tell {i}", texts[i % 2], texts[1 - i % 2], judge="human:anna", weight=2.0, soft_label=1.0)
        for i in range(6)
    ]
    people += [pair("only people", "x", "y", judge="human")]
    answers = table(tmp_path / "answers", "completions", train=rows)
    given = table(tmp_path / "given", "preferences", train=people[:4], heldout=people[4:])
    assert read_given(None) == [] and len(read_given(given)) == 7
    run = new_run()
    metrics = label(config(heldout_fraction=0.2), completions=answers, preferences=given, run=run)
    written = [row for side in ("train", "heldout") for row in read_table(run.out / "preferences" / f"{side}.parquet")]
    assert Counter(row["judge"] for row in written) == {"human:anna": 6, "human": 1, "rubric": 6}
    assert {row["weight"] for row in written if row["judge"] == "human:anna"} == {2.0}
    statistics = json.loads((run.out / "statistics.json").read_text())
    assert statistics["mixed"] == {"judged": 12, "given": 7, "both": 6, "changed": 3, "dropped": {}}
    assert statistics["human_agreement"]["hits"] == 3 and metrics["human_agreement"] == 0.5
    assert metrics["pairs/train"] + metrics["pairs/heldout"] == 13 and metrics["pairs/given"] == 7


def test_a_judge_alone_says_nothing_of_people(tmp_path, new_run):
    rows = [{"id": "c", "source": "t", "prompt": user("tell"), "completions": ["the the the"], "ended": [True]}]
    with pytest.raises(TrainingError, match="left no preference pair"):
        label(
            LabelConfig(judge=RUBRIC, unpaired={"by": "score", "good_at_least": 1000.0, "bad_below": -1000.0}),
            completions=table(tmp_path / "answers", "completions", train=rows),
            run=new_run(),
        )
