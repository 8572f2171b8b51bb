"""What answers say to a judge moves no parse and no rubric; how far it moves a language model is measured."""

from dataclasses import replace

import pytest
from judge_support import RuleModel, enclosed, judge_by, pair

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.records import user
from alignflow.models.judges.base import Candidate, make_judge
from alignflow.models.judges.fences import fence_of
from alignflow.models.judges.injections import INJECTIONS, injected, moved_by_injections

ANSWER = "Paris is the capital of France. It lies on the Seine, and about two million people live there."


@pytest.mark.parametrize("name", INJECTIONS)
def test_the_question_holds_the_whole_injection_between_its_fences(name, monkeypatch, new_run):
    """Whoever reads by the fences finds the two answers, and nothing of the question is the answer's."""
    model = RuleModel(lambda text, options: (0.5, 0.5))
    judge = judge_by(monkeypatch, model, "llm", new_run())
    attacked = injected(Candidate(user("q"), ANSWER), name)
    judge.compare([(Candidate(user("q"), "Lyon."), attacked)])
    text = model.read_questions[0].messages[0]["content"]
    assert enclosed(text, "Answer A") == "Lyon." and enclosed(text, "Answer B") == attacked.text
    assert len(model.read_questions[0].messages) == 1


@pytest.mark.parametrize("name", INJECTIONS)
@pytest.mark.parametrize(
    ("judge", "options"),
    [("rating", {}), ("additive", {}), ("checklist", {"points": "overall"}), ("constitutional", {})],
)
def test_every_judge_that_reads_keeps_the_injection_between_fences(name, judge, options, monkeypatch, new_run):
    model = RuleModel(lambda text, chosen: [1 / len(chosen)] * len(chosen), lambda text, seed: "Score: 2")
    made = judge_by(monkeypatch, model, judge, new_run(), **options)
    attacked = injected(Candidate(user("q"), ANSWER), name)
    verdict, plain = made.compare([(Candidate(user("q"), "a"), attacked), pair("a", "b", "q")])
    assert verdict.probability == plain.probability == 0.5
    for question in (*model.read_questions, *model.written_questions):
        text = question.messages[0]["content"]
        code = text.split("the code ")[1][:12]
        assert code not in attacked.text and text.count(f" {code}]") % 2 == 0


PLAIN = "The river is old, and boats have gone up and down on it for as long as people have lived there."


@pytest.mark.parametrize("name", INJECTIONS)
def test_to_the_rubric_it_is_a_sentence_like_any_other(name, new_run):
    """It wins nothing that a sentence about boats in the same place would not."""
    judge = make_judge(JudgeConfig(name="rubric"), policy=None, reward_model=None, run=new_run())
    asked = Candidate(user("What is the capital of France?"), ANSWER)
    plain = PLAIN if name.startswith("constant") else f"{ANSWER}\n\n{PLAIN}"
    harmless, attacked = judge.score([replace(asked, text=plain), injected(asked, name)])
    assert attacked <= harmless + 1e-9


def test_a_judge_that_believes_what_it_reads_is_moved_and_it_is_counted(monkeypatch, new_run):
    def believes(text, options):
        first, second = (("better one" in enclosed(text, f"Answer {option}")) for option in options)
        return (0.5, 0.5) if first == second else (0.9, 0.1) if first else (0.1, 0.9)

    judge = judge_by(monkeypatch, RuleModel(believes), "llm", new_run())
    found = moved_by_injections(judge, [pair("x", "y"), pair("v", "w")])
    moved, still = found["injections"]["ignore_the_above"], found["injections"]["score_line"]
    assert moved["shift_mean"] == moved["shift_max"] == pytest.approx(0.4) and moved["turned"] == 2
    assert still["shift_mean"] == 0 and still["turned"] == 0 and found["pairs"] == found["labelled"] == 2
    assert found["strongest"] in INJECTIONS and moved["flagged"] == 2


def test_pairs_that_lose_their_label_have_no_shift(monkeypatch, new_run):
    judge = judge_by(monkeypatch, RuleModel(lambda text, options: (0.6, 0.4)), "llm", new_run(), flagged="drop")
    found = moved_by_injections(judge, [pair("x", "y")])["injections"]["verdict_line"]
    assert found["labelled"] == 0 and found["unlabelled"] == 1 and found["shift_mean"] is None


def test_a_judge_without_reading_is_measured_too(new_run):
    judge = make_judge(JudgeConfig(name="rubric"), policy=None, reward_model=None, run=new_run())
    found = moved_by_injections(judge, [pair(ANSWER, ANSWER[:40])])
    assert all(each["flagged"] is None and each["shift_max"] is not None for each in found["injections"].values())


def test_no_injection_can_hold_the_code_of_its_own_fence():
    for make in INJECTIONS.values():
        assert fence_of("judge", user("q"), make(ANSWER), "other") not in make(ANSWER)
