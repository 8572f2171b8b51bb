"""An oracle through the whole labelling reproduces known labels; a judge of one seat gives one half, no pair, and a warning."""

import pytest
from judge_support import RuleModel, oracle, pair, worth

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.errors import TrainingError
from alignflow.data.judging.biases import first_position
from alignflow.data.judging.conclusion import POOR
from alignflow.data.judging.report import judge_report
from alignflow.data.records import read_table, user, write_table
from alignflow.models.judges import model_judges
from alignflow.models.judges.asking import outcome_of
from alignflow.models.judges.base import make_judge
from alignflow.models.judges.label import label

JUDGES = [
    ("llm", {}),
    ("llm", {"rationale": True}),
    ("constitutional", {"mode": "sample"}),
    ("constitutional", {"mode": "each", "principles": "concise"}),
]


@pytest.fixture
def with_model(monkeypatch):
    def use(read):
        model = RuleModel(read, lambda text, seed: "Both say something. Verdict: A")
        monkeypatch.setattr(model_judges, "make_judge_model", lambda *_: model)
        return model

    return use


@pytest.fixture
def completions(tmp_path):
    rows = [
        {
            "id": f"p{number}",
            "source": "t",
            "prompt": user(f"question {number}"),
            "completions": ["bad #1", "good #3", "fair #2"],
            "ended": [True] * 3,
            "tokens": [3] * 3,
        }
        for number in range(8)
    ]
    write_table(rows, "completions", tmp_path / "completions" / "train.parquet")
    return tmp_path / "completions"


@pytest.mark.parametrize(("name", "options"), JUDGES)
def test_an_oracle_labels_every_pair_rightly(name, options, with_model, completions, new_run, tmp_path):
    with_model(oracle)
    run = new_run()
    config = LabelConfig(judge={"name": name, "options": options}, pairs_per_prompt=3)
    label(config, completions=completions, policy=tmp_path, run=run)
    pairs = [row for side in ("train", "heldout") for row in read_table(run.out / "preferences" / f"{side}.parquet")]
    assert len(pairs) == 24 and all(
        worth(row["chosen"][0]["content"]) > worth(row["rejected"][0]["content"]) for row in pairs
    )
    (verdict, *_) = read_table(run.out / "verdicts.parquet")
    assert bool(verdict["rationale_given"]) == options.get("rationale", False)
    assert bool(verdict["principle"]) == (options.get("mode") == "sample")
    assert bool(verdict["parts"]) == (options.get("mode") == "each")


@pytest.mark.parametrize(("name", "options"), JUDGES)
def test_a_judge_that_always_answers_a(name, options, with_model, completions, new_run, tmp_path):
    with_model(lambda text, chosen: (0.97, 0.02))
    run = new_run()
    config = LabelConfig(judge={"name": name, "options": options})
    asked = [pair("x", "y"), pair("v", "w")]
    verdicts = make_judge(config.judge, policy=tmp_path, reward_model=None, run=run).compare(asked)
    assert [verdict.probability for verdict in verdicts] == [0.5, 0.5] and not any(each.decided for each in verdicts)
    outcomes = [outcome_of(verdict, f"p{number}", ("x", "y")) for number, verdict in enumerate(verdicts * 20)]
    assert first_position(outcomes)["rate"] == 1.0
    assert judge_report(outcomes, name)["conclusion"]["level"] in POOR
    with pytest.raises(TrainingError, match="changes with the order"):
        label(config, completions=completions, policy=tmp_path, run=run)
