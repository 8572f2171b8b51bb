"""A reward model reloads with its trained head, in our loader and in transformers'."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import make_reward_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from alignflow.data.configs.inputs import AdoptConfig
from alignflow.data.configs.training import RewardConfig
from alignflow.data.errors import ModelError
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models.adopt import adopt_reward_model
from alignflow.models.losses.reward import bradley_terry
from alignflow.models.reward_model import build_reward_model, load_reward_model, save_reward_model

ROWS = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False), (user("rain <|end|>"), "fell", True)]


@pytest.fixture
def saved(tiny_checkpoint, tmp_path):
    reward = make_reward_model(tiny_checkpoint, 3)
    out = tmp_path / "reward"
    out.mkdir()
    save_reward_model(reward, out, ROWS, {"Reward model": "for a test"})
    return reward, out


def test_it_scores_alike_after_loading(saved):
    reward, out = saved
    assert load_reward_model(out, Runtime()).score(ROWS) == pytest.approx(reward.score(ROWS), abs=1e-6)


def test_transformers_reads_the_same_scores_from_a_padded_batch(saved):
    reward, out = saved
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    rows = [reward.encode(row) for row in ROWS]
    ids = [list(row.prompt_ids + row.completion_ids) for row in rows]
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    assert model(**batch).logits[:, 0].tolist() == pytest.approx(reward.score(ROWS), abs=1e-5)


def test_pad_is_not_eos(saved):
    assert saved[0].model.config.pad_token_id != saved[0].tokenizer.eos_token_id


def test_a_head_that_is_not_the_trained_one_is_refused(saved):
    _, out = saved
    weights = load_file(out / "model.safetensors")
    weights["score.weight"] = -weights["score.weight"]
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="when it was saved"):
        load_reward_model(out, Runtime())


def test_a_missing_head_is_refused(saved):
    _, out = saved
    weights = {name: value for name, value in load_file(out / "model.safetensors").items() if name != "score.weight"}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="would be random"):
        load_reward_model(out, Runtime())


def test_another_tokenizer_is_refused(saved):
    _, out = saved
    checks = json.loads((out / "check_rows.json").read_text())
    checks[0]["ids"][0] += 1
    (out / "check_rows.json").write_text(json.dumps(checks))
    with pytest.raises(ModelError, match="other ids"):
        load_reward_model(out, Runtime())


def test_it_starts_with_a_head_of_zeros_so_that_the_loss_of_pairs_is_ln_2(tiny_checkpoint):
    reward = build_reward_model(tiny_checkpoint, Runtime())
    scores = reward.scores_packed([reward.encode(row) for row in ROWS])
    assert scores.tolist() == [0.0, 0.0, 0.0]
    none = torch.full((1,), torch.nan)
    loss = bradley_terry(scores[:1], scores[1:2], none, none, RewardConfig()).loss
    assert loss.tolist() == pytest.approx([math.log(2)], abs=1e-7)
    loss.sum().backward()
    assert reward.model.score.weight.grad.any(), "the first step moves the head"


def test_the_score_of_a_cut_answer_is_read_at_its_last_token(saved):
    reward, _ = saved
    ended, cut = reward.score([(user("a"), "b", True), (user("a"), "b", False)])
    assert ended != cut


def test_one_can_be_adopted(saved, new_run):
    reward, out = saved
    run = new_run("adopt")
    adopt_reward_model(AdoptConfig(path=str(out)), run=run)
    assert load_reward_model(run.out, Runtime()).score(ROWS) == pytest.approx(reward.score(ROWS), abs=1e-6)
