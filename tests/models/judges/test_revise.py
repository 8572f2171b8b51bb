"""Critique and revision: what is written, what is left out and counted, and that nothing is written twice."""

import json

import pytest
from judge_support import RuleModel

from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.records import read_table, user, write_table
from alignflow.data.run import Share
from alignflow.models.judges import revise as module
from alignflow.models.judges.judge_model import Writing
from alignflow.models.judges.revise import fill_revisions, revise

ANSWERS = ["first answer", "second answer"]


@pytest.fixture
def completions(tmp_path):
    def make(count=6, answers=ANSWERS):
        rows = [
            {
                "id": f"p{number}",
                "source": "t",
                "prompt": user(f"question {number}"),
                "completions": list(answers),
                "ended": [True] * len(answers),
                "tokens": [3] * len(answers),
            }
            for number in range(count)
        ]
        write_table(rows, "completions", tmp_path / "completions" / "train.parquet")
        return tmp_path / "completions"

    return make


@pytest.fixture
def with_model(monkeypatch):
    def use(write):
        model = RuleModel(write=write)
        monkeypatch.setattr(module, "make_judge_model", lambda *_: model)
        return model

    return use


def better(text, seed):
    """A critique, and after it a revision of the answer that stands between the fences."""
    if "write the answer anew" not in text:
        return "It is too short."
    return "longer first answer" if "\nfirst answer\n" in text else "longer second answer"


def test_revised_answers_stand_beside_the_originals_and_make_pairs_and_demonstrations(
    completions, with_model, new_run, tmp_path
):
    with_model(better)
    run = new_run()
    metrics = revise(ReviseConfig(heldout_fraction=0.3), completions=completions(), policy=tmp_path, run=run)
    row = read_table(run.out / "completions" / "train.parquet")[0]
    assert row["completions"] == [*ANSWERS, "longer first answer", "longer second answer"]
    assert row["ended"] == [True] * 4 and row["tokens"] == [3, 3, 19, 20]
    sides = {side: read_table(run.out / "preferences" / f"{side}.parquet") for side in ("train", "heldout")}
    pairs = [pair for rows in sides.values() for pair in rows]
    assert {(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs} == {
        (f"longer {text}", text) for text in ANSWERS
    }
    assert all(pair["soft_label"] is None for pair in pairs) and len(pairs) == 12
    assert metrics["pairs/train"] == len(sides["train"]) and metrics["revised"] == 12
    shown = read_table(run.out / "demonstrations" / "train.parquet")
    assert shown[0]["messages"][-1]["content"].startswith("longer") and len(shown) == len(sides["train"])
    lines = [json.loads(line) for line in (run.out / "revisions.jsonl").read_text().splitlines()]
    assert lines[0]["rounds"][0]["critique"] == "It is too short." and lines[0]["rounds"][0]["principle"]


def test_each_round_starts_from_the_answer_of_the_one_before(completions, with_model, new_run, tmp_path):
    model = with_model(better)
    revise(ReviseConfig(rounds=2), completions=completions(1), policy=tmp_path, run=new_run())
    assert sum("\nlonger first answer\n" in q.messages[0]["content"] for q in model.written_questions) == 2


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        ("second answer", "unchanged"),
        (" ", "no revision"),
        (Writing("", False, "too long"), "too long"),
    ],
)
def test_an_answer_without_a_new_one_is_left_out_and_counted(
    completions, with_model, new_run, tmp_path, revision, reason
):
    def write(text, seed):
        if "write the answer anew" in text and "\nsecond answer\n" in text:
            return revision
        return better(text, seed)

    with_model(write)
    run = new_run()
    metrics = revise(ReviseConfig(), completions=completions(), policy=tmp_path, run=run)
    statistics = json.loads((run.out / "statistics.json").read_text())
    assert metrics["revised"] == 6 and statistics["dropped"] == {reason: 6}
    assert len(read_table(run.out / "completions" / "train.parquet")[0]["completions"]) == 3


def test_a_revision_that_repeats_the_fence_is_none(completions, with_model, new_run, tmp_path):
    def write(text, seed):
        return text.split("the code ")[1][:12] if "write the answer anew" in text else "A critique."

    with_model(write)
    with pytest.raises(TrainingError, match="repeats the question"):
        revise(ReviseConfig(), completions=completions(), policy=tmp_path, run=new_run())


def test_what_is_journalled_is_never_written_again_and_the_bytes_are_the_same(
    completions, with_model, new_run, tmp_path
):
    config, places = ReviseConfig(batch_size=5), completions()
    (tmp_path / "known").write_text("[]")
    model = with_model(better)
    for number in range(2):
        fill_revisions(
            config,
            completions=places,
            policy=tmp_path,
            run=new_run("shared"),
            share=Share(number=number, of=2, known=tmp_path / "known"),
        )
    assert len(model.written_questions) == 24
    run = new_run("shared")
    revise(config, completions=places, policy=tmp_path, run=run)
    assert len(model.written_questions) == 24, "12 critiques and 12 revisions, all of them before"
    alone = new_run("alone")
    revise(config, completions=places, policy=tmp_path, run=alone)
    for name in ("completions/train.parquet", "preferences/train.parquet", "revisions.jsonl"):
        assert (run.out / name).read_bytes() == (alone.out / name).read_bytes()


def test_two_equal_answers_of_a_prompt_are_two_samples(completions, with_model, new_run, tmp_path):
    model = with_model(better)
    revise(ReviseConfig(), completions=completions(1, ["first answer"] * 2), policy=tmp_path, run=new_run())
    assert len(set(model.seeds)) == 4


def test_without_answers_there_is_nothing_to_revise(completions, with_model, new_run, tmp_path):
    with_model(better)
    with pytest.raises(DataError, match="no completions"):
        revise(ReviseConfig(), completions=completions(0), policy=tmp_path, run=new_run())


def test_another_model_takes_no_revisions_of_the_first(completions, with_model, new_run, tmp_path):
    """Seen: the model of `revise.model` was in no row's id, and the second run asked nothing."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
        with_model(better)
        run = new_run()
        revise(ReviseConfig(model=str(tmp_path / name)), completions=completions(), run=run)
        assert run.computed == 12
