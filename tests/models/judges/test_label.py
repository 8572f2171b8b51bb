"""The labelling stage: an oracle's labels come back whatever the order, and everything left out is counted."""

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.data.configs.generation import JudgeConfig, LabelConfig
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.records import read_table, user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.models.judges import asking
from alignflow.models.judges import label as module
from alignflow.models.judges.base import PointwiseJudge, Verdict, sigmoid
from alignflow.models.judges.label import label


def worth(text):
    return int(text.rsplit("#", 1)[1])


class Oracle(PointwiseJudge):
    """Knows each answer's worth, which stands behind its `#`."""

    asked = 0

    def score(self, candidates):
        Oracle.asked += len(candidates)
        return [float(worth(candidate.text)) for candidate in candidates]

    def probability(self, first, second):
        return sigmoid(first - second)

    def details(self, candidates):
        return [{"worth": float(worth(candidate.text))} for candidate in candidates]


class PairOracle:
    """Knows which of two answers is worth more; `seat` is added to the first seat's advantage, in both orders."""

    pointwise = False
    fingerprint = ""

    def __init__(self, seat=0.0):
        self.seat = seat

    def compare(self, pairs):
        verdicts = []
        for first, second in pairs:
            if first.text == second.text:
                verdicts.append(Verdict(None, reason="identical"))
                continue
            given = sigmoid(worth(first.text) - worth(second.text) + self.seat)
            swapped = 1 - sigmoid(worth(second.text) - worth(first.text) + self.seat)
            verdicts.append(Verdict((given + swapped) / 2, orders=(given, swapped)))
        return verdicts

    def close(self):
        pass


class Reader(PairOracle):
    """Reads answers as text, and believes one that speaks of the other: odd answers do, and win in both orders."""

    def flags(self, candidates):
        return [["claim about the other answer"] if worth(candidate.text) % 2 else [] for candidate in candidates]

    def compare(self, pairs):
        worths = [[worth(candidate.text) + 10 * (worth(candidate.text) % 2) for candidate in pair] for pair in pairs]
        return [Verdict(sigmoid(one - other), orders=(sigmoid(one - other),) * 2) for one, other in worths]


class Refuses(PairOracle):
    def compare(self, pairs):
        return [Verdict(None, reason="too long") for _ in pairs]


def completions(path, groups):
    rows = [
        {
            "id": f"p{index}",
            "source": "test",
            "prompt": user(f"prompt {index}"),
            "completions": [f"answer #{value}" for value in group],
            "ended": [value % 2 == 0 for value in group],
            "tokens": [3] * len(group),
        }
        for index, group in enumerate(groups)
    ]
    write_table(rows, "completions", path / "train.parquet")
    return path


@pytest.fixture
def make_run(tmp_path):
    numbers = itertools.count()

    def make(rows="rows"):
        root = tmp_path / f"run{next(numbers)}"
        for name in ("out", "side", "work"):
            (root / name).mkdir(parents=True)
        return Run(out=root / "out", side=root / "side", work=root / "work", rows=tmp_path / rows, runtime=Runtime())

    return make


def labelled(judge, groups, tmp_path, run, monkeypatch, /, **config):
    monkeypatch.setattr(module, "make_judge", lambda *arguments, **named: judge)
    metrics = label(
        LabelConfig(**config), completions=completions(tmp_path / f"completions{id(groups)}", groups), run=run
    )
    pairs = [pair for side in ("train", "heldout") for pair in read_table(run.out / "preferences" / f"{side}.parquet")]
    (report,) = json.loads((run.out / "judge_report.json").read_text())["reports"]
    return metrics, pairs, {**json.loads((run.out / "statistics.json").read_text()), "judge": report}


GROUPS = st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=6), min_size=12, max_size=20).filter(
    lambda groups: all(len(set(group)) > 1 for group in groups)
)


@pytest.mark.parametrize(
    "judge", [Oracle(), PairOracle(), PairOracle(seat=0.5)], ids=["pointwise", "pairwise", "biased to the first seat"]
)
@given(groups=GROUPS, data=st.data())
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_oracle_reproduces_its_labels_in_every_order(judge, groups, data, tmp_path, make_run, monkeypatch):
    run = make_run(rows=f"rows{random.random()}")
    shuffled = [data.draw(st.permutations(group)) for group in groups]
    metrics, pairs, _ = labelled(judge, shuffled, tmp_path, run, monkeypatch, pairs_per_prompt=64)
    assert len(pairs) == metrics["pairs/train"] + metrics["pairs/heldout"]
    for pair in pairs:
        better, worse = worth(pair["chosen"][0]["content"]), worth(pair["rejected"][0]["content"])
        assert better > worse and 0.5 < pair["soft_label"] <= 1
        assert pair["chosen_ended"] == (better % 2 == 0) and pair["rejected_ended"] == (worse % 2 == 0)
    for index, group in enumerate(groups):
        found = {
            (worth(pair["chosen"][0]["content"]), worth(pair["rejected"][0]["content"]))
            for pair in pairs
            if pair["prompt"] == user(f"prompt {index}")
        }
        expected = {(one, other) for one in group for other in group if one > other}
        assert found == expected if judge.__class__ is Oracle or len(group) <= 5 else found <= expected


def test_a_pointwise_judge_fills_scores_margins_and_rankings(tmp_path, make_run, monkeypatch):
    run = make_run()
    groups = [[0, 3, 1]] * 30
    _, pairs, statistics = labelled(Oracle(), groups, tmp_path, run, monkeypatch, pairs_per_prompt=1)
    assert len(pairs) == 30
    assert {(pair["score_chosen"], pair["score_rejected"], pair["margin"]) for pair in pairs} == {(3.0, 0.0, 3.0)}
    assert all(pair["soft_label"] == pytest.approx(sigmoid(3.0)) for pair in pairs)
    rankings = [row for side in ("train", "heldout") for row in read_table(run.out / "rankings" / f"{side}.parquet")]
    assert len(rankings) == 30 and rankings[0]["scores"] == [0.0, 3.0, 1.0]
    assert statistics["principles"] == {"worth": pytest.approx(4 / 3)}


def labelled_answers(run):
    rows = [row for side in ("train", "heldout") for row in read_table(run.out / "unpaired" / f"{side}.parquet")]
    return [(row["completion"][0]["content"], row["label"], row["ended"]) for row in rows]


@pytest.mark.parametrize("judge", [Oracle(), PairOracle()], ids=["pointwise", "pairwise"])
def test_one_labelling_gives_pairs_rankings_and_good_and_bad_answers(judge, tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, pairs, statistics = labelled(judge, [[0, 3, 1]] * 30, tmp_path, run, monkeypatch)
    assert set(labelled_answers(run)) == {("answer #0", False, True), ("answer #3", True, False)}
    assert len(pairs) == len(labelled_answers(run)) == 60
    assert metrics["unpaired/good"] == metrics["unpaired/bad"] == metrics["pairs/train"] / 2
    assert metrics["unpaired/dropped"] == 30
    assert statistics["unpaired"]["dropped"] == {"between good and bad": 30} and statistics["rankings"]["dropped"] == {}
    assert run.notes == ["labelled answers: kept 60 of 90: 30 between good and bad"]
    sides = {
        kind: {row["prompt"][0]["content"] for row in read_table(run.out / kind / "heldout.parquet")}
        for kind in ("preferences", "unpaired", "rankings")
    }
    assert sides["preferences"] == sides["unpaired"] == sides["rankings"] != set()


def test_limits_of_the_score_label_single_answers_where_there_is_no_pair(tmp_path, make_run, monkeypatch):
    run = make_run()
    limits = {"by": "score", "good_at_least": 5.0, "bad_below": 2.0}
    groups = [[value] for value in (0, 9, 3)] * 10
    metrics, pairs, statistics = labelled(Oracle(), groups, tmp_path, run, monkeypatch, unpaired=limits)
    assert pairs == [] and statistics["unpaired"]["dropped"] == {"between good and bad": 10}
    assert sorted(label for _, label, _ in labelled_answers(run)) == [False] * 10 + [True] * 10
    assert metrics["ties"] is None and any("no preference pairs to train on" in warning for warning in run.warnings)


def test_by_rank_single_answers_are_refused(tmp_path, make_run, monkeypatch):
    with pytest.raises(DataError, match=r"(?s)a pair needs two.*set label.unpaired.by to score"):
        labelled(Oracle(), [[0], [1]], tmp_path, make_run(), monkeypatch)


def test_labels_of_one_kind_alone_are_warned_of(tmp_path, make_run, monkeypatch):
    run = make_run()
    labelled(Oracle(), [[1, 2]] * 20, tmp_path, run, monkeypatch, unpaired={"by": "score"})
    assert any("labelled answers are good and none is bad" in warning for warning in run.warnings)


def test_a_pairwise_judge_of_ones_own_says_what_its_scores_are(tmp_path, make_run, monkeypatch):
    own, known, scoring = make_run(), make_run(), make_run(rows="of the other judge")
    judge = {"name": "my_judges.py:Shorter"}
    monkeypatch.setattr(asking, "own_source", lambda name: "")
    monkeypatch.setattr(asking, "judge_row", lambda name: catalogue.JUDGES["rubric"])
    labelled(PairOracle(), [[0, 1]] * 20, tmp_path, own, monkeypatch, judge=judge)
    labelled(PairOracle(), [[0, 1]] * 20, tmp_path, known, monkeypatch)
    labelled(Oracle(), [[0, 1]] * 20, tmp_path, scoring, monkeypatch, judge=judge)
    assert own.notes == [module.WIN_RATES] and known.notes == scoring.notes == []


def test_a_pairwise_judge_has_margins_from_probabilities_and_ranks_by_mean_probability(tmp_path, make_run, monkeypatch):
    run = make_run()
    _, pairs, _ = labelled(PairOracle(), [[0, 1]] * 30, tmp_path, run, monkeypatch)
    assert all(pair["margin"] == pytest.approx(2 * sigmoid(1.0) - 1) for pair in pairs)
    assert {pair["score_chosen"] for pair in pairs} == {None}
    ranked = read_table(run.out / "rankings" / "train.parquet")
    high, low = sigmoid(1.0), 1 - sigmoid(1.0)
    assert ranked and {tuple(row["ended"]) for row in ranked} == {(True, False)}, "as the completions say"
    for row in ranked:
        assert sorted(row["scores"]) == pytest.approx([low, high])


def test_prompts_never_stand_on_both_sides_and_each_has_its_share(tmp_path, make_run, monkeypatch):
    run = make_run()
    labelled(Oracle(), [[0, 1, 2]] * 300, tmp_path, run, monkeypatch, heldout_fraction=0.2)
    sides = {
        side: {pair["prompt"][0]["content"] for pair in read_table(run.out / "preferences" / f"{side}.parquet")}
        for side in ("train", "heldout")
    }
    assert not sides["train"] & sides["heldout"] and len(sides["heldout"]) > 30
    rankings = {row["prompt"][0]["content"] for row in read_table(run.out / "rankings" / "heldout.parquet")}
    assert rankings == sides["heldout"]


def test_ties_and_identical_answers_are_dropped_and_counted(tmp_path, make_run, monkeypatch):
    class Level(Oracle):
        def score(self, candidates):
            return [float(worth(candidate.text) > 4) for candidate in candidates]

    metrics, pairs, statistics = labelled(
        Level(), [[1, 2, 2, 7]] * 20, tmp_path, make_run(), monkeypatch, pairs_per_prompt=64
    )
    # Of 6 pairs: (1,2) twice a tie, (2,2) identical, (7,1) and (7,2) kept, the second (7,2) repeated.
    assert statistics["ties"] == 40 and statistics["abstentions"] == {"identical": 20}
    assert statistics["dropped"]["repeated pair"] == 20 and len(pairs) == 40
    assert metrics["ties"] == pytest.approx(40 / 120)


def test_min_margin_is_a_distance_from_one_half(tmp_path, make_run, monkeypatch):
    _, pairs, statistics = labelled(
        Oracle(), [[0, 1, 5]] * 20, tmp_path, make_run(), monkeypatch, min_margin=0.3, pairs_per_prompt=9
    )
    assert len(pairs) == 40 and statistics["dropped"] == {"narrow margin": 20}


def test_a_biased_judge_shows_in_its_rates(tmp_path, make_run, monkeypatch):
    _, _, statistics = labelled(PairOracle(seat=1.5), [[0, 1], [0, 3]] * 20, tmp_path, make_run(), monkeypatch)
    # Worth 1 apart the seat decides, worth 3 apart the answer: half of the pairs flip.
    assert statistics["judge"]["flips"]["rate"] == 0.5 and statistics["judge"]["flips"]["trials"] == 40
    assert statistics["judge"]["first_position"]["rate"] == pytest.approx(0.75)
    assert statistics["judge"]["flips"]["low"] < 0.5 < statistics["judge"]["flips"]["high"]


def test_a_verdict_that_changes_with_the_order_is_a_tie_and_no_pair(tmp_path, make_run, monkeypatch):
    """Eleven verdicts of twelve change: the mean of both orders is near one half, and the seat made the label."""
    run = make_run()
    judge = PairOracle(seat=1.5)  # outweighs a difference of 1, and not one of 3
    metrics, pairs, statistics = labelled(judge, [[0, 1]] * 22 + [[0, 3]] * 2, tmp_path, run, monkeypatch)
    assert {pair["chosen"][0]["content"] for pair in pairs} == {"answer #3"} and len(pairs) == 2
    assert (
        statistics["dropped"] == {"changes with the order": 22}
        and statistics["ties"] == 22
        and statistics["abstentions"] == {}
    )
    assert statistics["judge"]["flips"]["hits"] == 22 and statistics["judge"]["longer_wins"]["trials"] == 0
    assert metrics["ties"] == metrics["flip_rate"] == pytest.approx(11 / 12)
    assert any("first seat in 96% of 48 questions" in warning for warning in run.warnings)


class First(PairOracle):
    """Prefers the answer in the first seat, in both orders; it does not see that it is asked about one answer twice."""

    def compare(self, pairs):
        return [Verdict(0.9, orders=(0.9, 0.9)) for _ in pairs]


class Longest(PointwiseJudge):
    def score(self, candidates):
        return [float(len(candidate.text)) for candidate in candidates]

    def probability(self, first, second):
        return sigmoid(first - second)


@pytest.fixture
def three_blanks(tmp_path):
    """Completions of 20 prompts: three blank ones in different characters, then a real one."""
    answers = [" ", "\n\t", "\u200b", "an answer"]
    rows = [
        {
            "id": f"p{index}",
            "source": "t",
            "prompt": user(f"prompt {index}"),
            "completions": answers,
            "ended": None,
            "tokens": None,
        }
        for index in range(20)
    ]
    write_table(rows, "completions", tmp_path / "blank" / "train.parquet")
    return tmp_path / "blank"


def test_blank_answers_are_identical_and_lose_to_a_real_one(three_blanks, make_run, monkeypatch):
    run = make_run()
    monkeypatch.setattr(module, "make_judge", lambda *arguments, **named: Longest())
    label(LabelConfig(pairs_per_prompt=9), completions=three_blanks, run=run)
    statistics = json.loads((run.out / "statistics.json").read_text())
    assert statistics["dropped"] == {"identical": 60, "repeated pair": 40} and statistics["abstentions"] == {
        "identical": 60
    }
    assert {row["chosen"][0]["content"] for row in read_table(run.out / "preferences" / "train.parquet")} == {
        "an answer"
    }


def test_a_preferred_blank_answer_makes_no_pair_and_is_counted(three_blanks, make_run, monkeypatch):
    monkeypatch.setattr(module, "make_judge", lambda *arguments, **named: First())
    with pytest.raises(TrainingError, match=r"60 blank answer preferred, 60 identical"):
        label(LabelConfig(pairs_per_prompt=9), completions=three_blanks, run=make_run())


class Elsewhere(PairOracle):
    """Puts a given share of its probability on its options."""

    def __init__(self, *masses):
        super().__init__()
        self.masses = masses

    def compare(self, pairs):
        return [replace(verdict, masses=self.masses) for verdict in super().compare(pairs)]


def test_a_judge_that_does_not_answer_the_question_is_reported(tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, _, statistics = labelled(Elsewhere(0.02, 0.06), [[0, 1]] * 20, tmp_path, run, monkeypatch)
    assert statistics["judge"]["option_mass"]["mean"] == metrics["judge/option_mass"] == pytest.approx(0.04)
    assert metrics["judge/option_mass_p5"] == statistics["judge"]["option_mass"]["p5"] == pytest.approx(0.02)
    assert (statistics["judge"]["option_mass"]["count"], statistics["judge"]["option_mass"]["bound"]) == (40, 0.5)
    (warning,) = [warning for warning in run.warnings if "does not answer the question" in warning]
    assert "4.0% of its probability" in warning and "judge.options.prompt" in warning


def test_where_such_a_judge_leaves_no_pair_the_error_says_so(tmp_path, make_run, monkeypatch):
    judge = Elsewhere(0.02, 0.06)
    judge.seat = 9.0
    with pytest.raises(
        TrainingError, match=r"(?s)20 changes with the order.*does not answer the question.* 4\.0% of its probability"
    ):
        labelled(judge, [[0, 1]] * 20, tmp_path, make_run(), monkeypatch)


@pytest.mark.parametrize(
    "judge", [Elsewhere(0.5, 0.5), Elsewhere(None, None), Oracle()], ids=["answers", "is not asked so", "pointwise"]
)
def test_a_judge_that_answers_or_has_no_options_is_not(judge, tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, _, statistics = labelled(judge, [[0, 1]] * 20, tmp_path, run, monkeypatch)
    assert not [warning for warning in run.warnings if "question" in warning]
    assert (
        bool(statistics["judge"]["option_mass"])
        == ("judge/option_mass" in metrics)
        == (getattr(judge, "masses", None) == (0.5, 0.5))
    )


def test_verdicts_that_an_earlier_version_journalled_have_no_masses(tmp_path, make_run, monkeypatch):
    packed = module.packed
    monkeypatch.setattr(module, "packed", lambda verdict: packed(verdict)[:4])
    _, pairs, statistics = labelled(Elsewhere(0.1, 0.1), [[0, 1]] * 20, tmp_path, make_run(), monkeypatch)
    assert len(pairs) == 20 and not statistics["judge"]["option_mass"]


def test_a_pointwise_judge_has_no_flip_rate(tmp_path, make_run, monkeypatch):
    metrics, _, statistics = labelled(Oracle(), [[0, 1]] * 20, tmp_path, make_run(), monkeypatch)
    assert metrics["flip_rate"] is None and statistics["judge"]["flips"] == {
        "rate": None,
        "low": None,
        "high": None,
        "hits": 0,
        "trials": 0,
    }


def test_the_longer_answers_wins_are_counted(tmp_path, make_run, monkeypatch):
    _, _, statistics = labelled(Oracle(), [[5, 12], [7, 100]] * 10, tmp_path, make_run(), monkeypatch)
    assert statistics["judge"]["longer_wins"]["rate"] == 1.0 and statistics["judge"]["longer_wins"]["trials"] == 20


def test_no_label_is_an_abstention_with_its_reason_and_all_of_them_an_error(tmp_path, make_run, monkeypatch):
    with pytest.raises(TrainingError, match="20 too long"):
        labelled(Refuses(), [[0, 1]] * 20, tmp_path, make_run(), monkeypatch)


def test_a_score_that_is_not_a_number_is_an_abstention(tmp_path, make_run, monkeypatch):
    class Broken(Oracle):
        def score(self, candidates):
            return [
                float("nan") if worth(candidate.text) == 9 else float(worth(candidate.text)) for candidate in candidates
            ]

    run = make_run()
    _, pairs, statistics = labelled(Broken(), [[0, 1, 9]] * 20, tmp_path, run, monkeypatch, pairs_per_prompt=9)
    assert statistics["abstentions"] == {"no score": 40} and len(pairs) == 20
    assert read_table(run.out / "rankings" / "train.parquet")[0]["scores"] == [0.0, 1.0]


def test_what_was_judged_is_never_judged_again_and_the_bytes_are_the_same(tmp_path, make_run, monkeypatch):
    groups, runs = [[0, 1, 2]] * 30, [make_run(), make_run()]
    Oracle.asked = 0
    for run in runs:
        labelled(Oracle(), groups, tmp_path, run, monkeypatch, batch_size=7)
    assert Oracle.asked == 90
    first, second = (
        {path.relative_to(run.out): path.read_bytes() for path in run.out.rglob("*") if path.is_file()} for run in runs
    )
    assert first == second and len(first) == 12 and Path("README.md") in first


def test_other_selection_settings_use_the_same_judgements(tmp_path, make_run, monkeypatch):
    groups = [[0, 1, 2]] * 30
    Oracle.asked = 0
    labelled(Oracle(), groups, tmp_path, make_run(), monkeypatch, pairs_per_prompt=1)
    labelled(
        Oracle(), groups, tmp_path, make_run(), monkeypatch, pairs_per_prompt=3, min_margin=0.1, heldout_fraction=0.3
    )
    assert Oracle.asked == 90


def test_a_judge_of_a_new_version_is_never_served_the_old_labels(tmp_path, make_run, monkeypatch):
    groups = [[0, 1, 2]] * 30
    Oracle.asked = 0
    labelled(Oracle(), groups, tmp_path, make_run(), monkeypatch)
    row = catalogue.JUDGES["rubric"]
    monkeypatch.setattr(catalogue, "JUDGES", {**catalogue.JUDGES, "rubric": replace(row, version=f"{row.version}+")})
    labelled(Oracle(), groups, tmp_path, make_run(), monkeypatch)
    assert Oracle.asked == 180


def test_a_changed_constitution_is_never_served_the_old_labels(tmp_path, make_run):
    path = tmp_path / "own.yaml"
    completions(tmp_path / "completions", [[1, 22]] * 20)
    config = LabelConfig(judge=JudgeConfig(name="rubric", options={"constitution": str(path)}))
    chosen = []
    for pattern in (r"#1$", r"#22$"):
        path.write_text(
            f"name: own\nprinciples: [{{name: wanted, kind: pattern, options: {{pattern: '{pattern}'}}}}]\n"
        )
        run = make_run()
        label(config, completions=tmp_path / "completions", run=run)
        chosen.append({pair["chosen"][0]["content"] for pair in read_table(run.out / "preferences" / "train.parquet")})
    assert chosen == [{"answer #1"}, {"answer #22"}]


@pytest.mark.parametrize(("groups", "advice"), [([], "sample"), ([[1]], "sample.n")])
def test_nothing_to_compare_is_the_users_error(tmp_path, make_run, monkeypatch, groups, advice):
    with pytest.raises(DataError, match=advice):
        labelled(Oracle(), groups, tmp_path, make_run(), monkeypatch)


WELL = "I am very well, thank you. The sun is out, so I walked to the river with a friend, and we ate bread and cheese on a bench."


def test_the_rubric_labels_end_to_end(tmp_path, make_run):
    rows = [
        {
            "id": f"p{index}",
            "source": "test",
            "prompt": user(f"How are you, number {index}?"),
            "ended": None,
            "completions": [WELL, "bad", "bad bad bad bad bad"],
            "tokens": None,
        }
        for index in range(40)
    ]
    write_table(rows, "completions", tmp_path / "completions" / "train.parquet")
    run = make_run()
    metrics = label(LabelConfig(judge=JudgeConfig(name="rubric")), completions=tmp_path / "completions", run=run)
    pairs = read_table(run.out / "preferences" / "train.parquet")
    assert all(pair["chosen"][0]["content"].startswith("I am") for pair in pairs) and metrics["pairs/train"] == len(
        pairs
    )
    assert set(json.loads((run.out / "statistics.json").read_text())["principles"]) == {
        "enough_but_not_too_much",
        "finished",
        "says_things_once",
        "friendly",
        "in_sentences",
        "no_stuffed_keywords",
        "more_than_the_question",
        "says_something",
        "no_empty_praise",
        "harmless",
    }


def test_flagged_answers_are_counted_listed_and_warned_about_with_their_wins(tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, _, statistics = labelled(Reader(), [[0, 1, 2]] * 20, tmp_path, run, monkeypatch)
    flagged = statistics["flagged"]
    assert (flagged["answers"]["hits"], flagged["answers"]["trials"]) == (20, 60) and flagged["marks"] == {
        "claim about the other answer": 20
    }
    assert (flagged["wins"]["hits"], flagged["wins"]["trials"]) == (40, 40) and flagged["wins"]["low"] > 0.9
    assert flagged["wins_in_both_orders"]["hits"] == 40
    assert metrics["flagged_rate"] == pytest.approx(1 / 3) and metrics["flagged_wins_rate"] == 1.0
    assert any(
        "20 of 60 answers" in warning and "40 of 40" in warning and "flagged.json" in warning
        for warning in run.warnings
    )
    rows = json.loads((run.out / "flagged.json").read_text())
    assert len(rows) == 20 and rows[0] == {
        "id": "p0",
        "completion": 1,
        "marks": ["claim about the other answer"],
        "text": "answer #1",
    }


def test_a_judge_that_reads_and_finds_no_mark_is_not_warned_about(tmp_path, make_run, monkeypatch):
    run = make_run()
    _, _, statistics = labelled(Reader(), [[0, 2, 4]] * 20, tmp_path, run, monkeypatch)
    assert statistics["flagged"]["answers"]["hits"] == 0 and statistics["flagged"]["wins"]["rate"] is None
    assert (
        not [warning for warning in run.warnings if "marks" in warning]
        and json.loads((run.out / "flagged.json").read_text()) == []
    )


def test_a_judge_that_no_answer_can_speak_to_counts_no_flags(tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, _, statistics = labelled(Oracle(), [[0, 1, 2]] * 20, tmp_path, run, monkeypatch)
    assert (
        metrics["flagged_rate"] is None
        and statistics["flagged"]["answers"]["trials"] == 0
        and not (run.out / "flagged.json").exists()
    )


def fitted(directory, **values):
    directory.mkdir()
    (directory / "calibration.json").write_text(
        json.dumps({"used": True, "slope": 1.0, "bias": 0.0, "why": "", **values})
    )
    return directory


def test_labels_that_the_seat_swallowed_come_back_by_calibration_and_the_judges_own_are_kept(
    tmp_path, make_run, monkeypatch
):
    monkeypatch.setattr(module, "make_judge", lambda *arguments, **named: PairOracle(seat=5.0))
    answers, run = completions(tmp_path / "completions", [[0, 1]] * 30), make_run()
    calibration = fitted(tmp_path / "calibration", bias=5.0, fitted_on=100, measured_on=100)
    metrics = label(LabelConfig(), completions=answers, calibration=calibration, run=run)
    verdicts = read_table(run.out / "verdicts.parquet")
    assert metrics["pairs/train"] + metrics["pairs/heldout"] == 30 and metrics["calibrated"] == 1.0
    assert all(row["raw_given"] > 0.5 > row["raw_swapped"] or row["raw_given"] < 0.5 for row in verdicts)
    for side in ("train", "heldout"):
        for pair in read_table(run.out / "preferences" / f"{side}.parquet"):
            assert pair["chosen"][0]["content"] == "answer #1" and pair["soft_label"] == pytest.approx(sigmoid(1.0))
    (report,) = json.loads((run.out / "judge_report.json").read_text())["reports"]
    assert report["as_asked"]["first_position"]["rate"] == report["as_asked"]["flips"]["rate"] == 1.0
    assert report["first_position"]["rate"] == 0.5 and report["flips"]["rate"] == 0.0, "those of the calibrated labels"


def test_a_fit_that_does_not_help_is_not_used_and_that_is_said(tmp_path, make_run, monkeypatch):
    monkeypatch.setattr(module, "make_judge", lambda *arguments, **named: PairOracle())
    answers, run = completions(tmp_path / "completions", [[0, 1]] * 30), make_run()
    calibration = fitted(tmp_path / "calibration", used=False, slope=9.0, why="it does not help", fitted_on=60)
    metrics = label(LabelConfig(), completions=answers, calibration=calibration, run=run)
    assert metrics["calibrated"] == 0.0 and "the labels are not calibrated: it does not help" in run.warnings


def test_a_judge_that_always_takes_the_first_seat_makes_no_pair_and_is_called_near_chance(
    tmp_path, make_run, monkeypatch
):
    with pytest.raises(TrainingError, match=r"(?s)near chance.*first seat in 100% of 40 questions"):
        labelled(PairOracle(seat=50.0), [[0, 1]] * 20, tmp_path, make_run(), monkeypatch)


def test_the_page_and_the_cost_are_beside_the_payload_and_not_in_it(tmp_path, make_run, monkeypatch):
    run = make_run()
    labelled(PairOracle(), [[0, 1]] * 20, tmp_path, run, monkeypatch)
    assert (run.side / "judge_report.html").is_file() and "seconds" in json.loads(
        (run.side / "judge_cost.json").read_text()
    )
    assert "seconds" not in (run.out / "judge_report.json").read_text()


def test_pairs_that_were_not_asked_yet_are_asked_where_all_shall_meet(tmp_path, make_run, monkeypatch):
    groups = [[0, 1, 2, 3, 4, 5, 6]] * 12
    few, _, _ = labelled(PairOracle(), groups, tmp_path, make_run(), monkeypatch)
    every, _, _ = labelled(PairOracle(), groups, tmp_path, make_run(), monkeypatch, all_pairs_up_to=7)
    assert (few["pairs/judged"], every["pairs/judged"]) == (12 * 14, 12 * 21), "the journal tells the plans apart"
