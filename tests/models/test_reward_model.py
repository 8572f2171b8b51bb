"""A reward model reloads with its trained head, in our loader and in transformers'."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from alignflow.data.configs.inputs import AdoptConfig
from alignflow.data.errors import ModelError
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models.adopt import adopt_reward_model
from alignflow.models.reward_model import build_reward_model, load_reward_model, save_reward_model

ROWS = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False), (user("rain <|end|>"), "fell", True)]


@pytest.fixture
def saved(tiny_checkpoint, tmp_path):
    reward = build_reward_model(tiny_checkpoint, 3, Runtime())
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
    with pytest.raises(ModelError, match="fresh"):
        load_reward_model(out, Runtime())


def test_another_tokenizer_is_refused(saved):
    _, out = saved
    checks = json.loads((out / "check_rows.json").read_text())
    checks[0]["ids"][0] += 1
    (out / "check_rows.json").write_text(json.dumps(checks))
    with pytest.raises(ModelError, match="other ids"):
        load_reward_model(out, Runtime())


def test_the_head_is_drawn_from_the_seed(tiny_checkpoint):
    heads = [build_reward_model(tiny_checkpoint, seed, Runtime()).model.score.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_the_score_of_a_cut_answer_is_read_at_its_last_token(saved):
    reward, _ = saved
    ended, cut = reward.score([(user("a"), "b", True), (user("a"), "b", False)])
    assert ended != cut


def test_one_can_be_adopted(saved, new_run):
    reward, out = saved
    run = new_run("adopt")
    adopt_reward_model(AdoptConfig(path=str(out)), run=run)
    assert load_reward_model(run.out, Runtime()).score(ROWS) == pytest.approx(reward.score(ROWS), abs=1e-6)
