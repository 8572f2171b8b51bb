"""Several reward models stand where one stood: on disk, loaded, as a judge, a source of rewards, a value model's start, exported, adopted."""

import json
import shutil

import pytest
import torch
from tests_support import as_artifact
from tiny_model import make_reward_model

from alignflow.data.adapters import verify_model
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig
from alignflow.data.configs.inputs import AdoptConfig
from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.data.errors import DamagedArtifactError, ModelError
from alignflow.data.model_directory import check_model_directory
from alignflow.data.records import user
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble, write_ensemble
from alignflow.data.run import Runtime
from alignflow.models.adopt import adopt_reward_model
from alignflow.models.evaluators.base import Answer, EvaluationInputs
from alignflow.models.evaluators.reward_score import evaluate
from alignflow.models.export import export
from alignflow.models.judges.base import Candidate, make_judge
from alignflow.models.reward_ensemble import RewardEnsemble, disagreement_of, load_scorer, one_model
from alignflow.models.reward_model import RewardModel, save_reward_model
from alignflow.models.rewards.sources import Episode, WeightedRewards, bind_sources
from alignflow.models.value_model import make_value_model

ROWS = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False), (user("rain"), "fell", True)]
EPISODES = [Episode({"id": "q", "prompt": prompt}, text, ended) for prompt, text, ended in ROWS]


@pytest.fixture(scope="module")
def members(tiny_checkpoint, tmp_path_factory):
    """Two reward models as artifacts of a store: the store, their payloads, and the scores of ROWS."""
    root = tmp_path_factory.mktemp("members")
    models = [make_reward_model(tiny_checkpoint, seed) for seed in (1, 2)]
    for number, model in enumerate(models, 1):
        (root / str(number)).mkdir()
        save_reward_model(model, root / str(number), ROWS, {"Reward model": "for a test"})
    places = [as_artifact(root / str(number), root / "store", f"reward-{number}", "reward_model") for number in (1, 2)]
    return root / "store", places, [model.score(ROWS) for model in models]


@pytest.fixture
def ensemble(members, tmp_path):
    """A copy of the store with an ensemble of the two by their minimum; returns the ensemble's payload."""
    shutil.copytree(members[0], tmp_path / "store")
    (tmp_path / "made").mkdir()
    places = [tmp_path / "store" / "artifacts" / f"reward-{number}" / "payload" for number in (1, 2)]
    write_ensemble(tmp_path / "made", places, "min", 0.1)
    return as_artifact(tmp_path / "made", tmp_path / "store", "reward_ensemble-1", "reward_model")


@pytest.fixture
def lowest(members):
    return [min(scores) for scores in zip(*members[2], strict=True)]


@pytest.fixture
def spread(members):
    return [abs(first - second) / 2 for first, second in zip(*members[2], strict=True)]


def test_it_holds_references_and_no_weights(ensemble):
    content = json.loads((ensemble / "ensemble.json").read_text())
    assert [member["key"] for member in content["members"]] == ["reward-1", "reward-2"]
    assert sum(file.stat().st_size for file in ensemble.iterdir()) < 1000


def test_it_scores_by_its_rule_and_says_where_members_disagree(ensemble, lowest, spread):
    loaded = load_scorer(ensemble, Runtime())
    assert isinstance(loaded, RewardEnsemble)
    assert loaded.score(ROWS) == pytest.approx(lowest, abs=1e-6)
    assert disagreement_of(loaded, ROWS) == pytest.approx(spread, abs=1e-6)
    assert min(spread) > 1e-3, "the members of the test differ"


def test_asking_for_the_disagreement_after_the_scores_runs_no_model(ensemble, monkeypatch):
    loaded, asked = load_scorer(ensemble, Runtime()), []
    score = RewardModel.score
    monkeypatch.setattr(RewardModel, "score", lambda self, rows: asked.append(len(rows)) or score(self, rows))
    first = loaded.score(ROWS), loaded.disagreement(ROWS)
    assert asked == [3, 3]
    assert loaded.score(ROWS[::-1]) == first[0][::-1] and asked == [3, 3, 3, 3], "other rows are scored anew"


def test_a_single_model_has_nobody_to_disagree_with(members):
    alone = load_scorer(members[1][0], Runtime())
    assert isinstance(alone, RewardModel) and disagreement_of(alone, ROWS) is None


def test_as_a_source_of_rewards_its_score_counts_and_its_disagreement_is_shown(ensemble, lowest, spread, new_run):
    source = WeightedRewards(bind_sources([RewardSourceConfig()]), ensemble, new_run())
    scores = source.score(EPISODES)
    assert scores["reward_model"] == pytest.approx(lowest, abs=1e-6)
    assert scores["reward_model/disagreement"] == pytest.approx(spread, abs=1e-6)
    assert source.combine(scores) == scores["reward_model"], "the disagreement gives no reward"


def test_a_judge_among_the_rewards_shows_it_too_and_a_single_model_shows_none(ensemble, members, new_run):
    judge = RewardSourceConfig(name="judge", options={"judge": {"name": "reward_model"}})
    assert set(WeightedRewards(bind_sources([judge]), ensemble, new_run()).score(EPISODES)) == {
        "reward_model",
        "reward_model/disagreement",
    }
    alone = WeightedRewards(bind_sources([judge, RewardSourceConfig()]), members[1][0], new_run())
    assert not [name for name in alone.score(EPISODES) if "disagreement" in name]


def test_as_a_judge_it_labels_by_its_score_and_details_have_the_disagreement(ensemble, lowest, spread, new_run):
    judge = make_judge(JudgeConfig(name="reward_model"), policy=None, reward_model=ensemble, run=new_run())
    candidates = [Candidate(*row) for row in ROWS]
    assert judge.score(candidates) == pytest.approx(lowest, abs=1e-6)
    assert [detail["disagreement"] for detail in judge.details(candidates)] == pytest.approx(spread, abs=1e-6)


def test_labels_of_another_rule_are_other_labels(ensemble, tmp_path, new_run):
    write_ensemble(tmp_path / "made", read_ensemble(ensemble).members, "mean", 0.1)
    other = as_artifact(tmp_path / "made", tmp_path / "store", "reward_ensemble-2", "reward_model")
    one, two = (
        make_judge(JudgeConfig(name="reward_model"), policy=None, reward_model=path, run=new_run())
        for path in (ensemble, other)
    )
    assert one.fingerprint != two.fingerprint, "the row journal tells them apart"


def test_the_evaluator_has_the_disagreement_about_each_models_answers(ensemble, lowest, spread, new_run):
    answers = [Answer(text, ended, 3) for _, text, ended in ROWS]
    inputs = EvaluationInputs(
        EvaluateConfig(),
        [{"prompt": prompt} for prompt, _, _ in ROWS],
        {"aligned": answers, "sft": answers},
        {},
        None,
        ensemble,
        new_run(),
    )
    found = evaluate(inputs).metrics
    assert found["reward/aligned"] == pytest.approx(sum(lowest) / 3, abs=1e-6)
    assert found["reward/disagreement/aligned"] == pytest.approx(sum(spread) / 3, abs=1e-6)


def test_a_value_model_starts_as_the_first_member(ensemble, members, tiny_checkpoint):
    assert one_model(ensemble).parent.name == "reward-1" and one_model(members[1][1]) == members[1][1]
    critic = make_value_model("reward_model", tiny_checkpoint, ensemble, Runtime())
    first = load_scorer(members[1][0], Runtime())
    assert torch.equal(critic.model.score.weight, first.model.score.weight) and critic.origin == "reward_model"


def test_exported_it_brings_its_members_and_can_be_adopted(ensemble, lowest, tmp_path, new_run):
    export(ensemble, tmp_path / "out")
    shutil.rmtree(tmp_path / "store")
    check_model_directory(tmp_path / "out")
    assert load_scorer(tmp_path / "out", Runtime()).score(ROWS) == pytest.approx(lowest, abs=1e-6)
    run = new_run("adopt")
    assert adopt_reward_model(AdoptConfig(path=str(tmp_path / "out")), run=run)["members"] == 2
    kept = as_artifact(run.out, tmp_path / "other", "adopt_reward-1", "reward_model")
    shutil.rmtree(tmp_path / "out")
    assert load_scorer(kept, Runtime()).score(ROWS) == pytest.approx(lowest, abs=1e-6)


def test_a_missing_member_is_named(ensemble, tmp_path):
    shutil.rmtree(tmp_path / "store" / "artifacts" / "reward-2")
    with pytest.raises(ModelError, match="its member 2 reward-2 is missing"):
        load_scorer(ensemble, Runtime())


def test_a_member_that_changed_outside_of_a_store_is_refused(ensemble, tmp_path):
    export(ensemble, tmp_path / "out")
    (tmp_path / "out" / "member.2" / "README.md").write_text("other")
    with pytest.raises(ModelError, match="its member 2 has changed"):
        read_ensemble(tmp_path / "out")


def test_a_damaged_member_is_named_by_its_key_so_that_the_flow_makes_it_again(ensemble, tmp_path):
    with open(tmp_path / "store" / "artifacts" / "reward-2" / "payload" / "tokenizer.json", "ab") as file:
        file.write(b" ")
    with pytest.raises(DamagedArtifactError) as error:
        verify_model(ensemble)
    assert error.value.key == "reward-2"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"aggregate": "mean", "uncertainty_weight": 0.1, "members": []}'])
def test_a_file_that_is_no_ensemble_is_refused(content, tmp_path):
    (tmp_path / "ensemble.json").write_text(content)
    assert is_ensemble(tmp_path)
    with pytest.raises(ModelError, match="ensemble"):
        read_ensemble(tmp_path)


def test_a_rule_that_is_unknown_is_refused(ensemble, tmp_path):
    export(ensemble, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "ensemble.json").read_text())
    (tmp_path / "out" / "ensemble.json").write_text(json.dumps({**content, "aggregate": "median"}))
    with pytest.raises(ModelError, match="unknown aggregate 'median'"):
        read_ensemble(tmp_path / "out")
