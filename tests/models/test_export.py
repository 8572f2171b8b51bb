"""An exported model stands alone: the same answers, nothing beside it, whole or not at all."""

import os
import shutil

import pytest
import torch
from tests_support import as_artifact
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

pytest.importorskip("peft")

from tiny_model import make_reward_model

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import LoRAConfig, RewardConfig, SFTConfig
from alignflow.data.errors import DamagedArtifactError, UserError
from alignflow.data.model_cards import ModelFacts, model_card
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models import merged_copy as module
from alignflow.models.adapters import add_adapter, save_model
from alignflow.models.batching import EncodedRow
from alignflow.models.export import export
from alignflow.models.policy import load_policy
from alignflow.models.reward_model import load_reward_model, save_reward_model

ROWS = [EncodedRow((4, 9, 20), (30, 31, 1))]
SCORED = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False)]


def disturb(holder):
    with torch.no_grad():
        for name, parameter in holder.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)


@pytest.fixture
def store(tiny_checkpoint, tmp_path):
    """A store with the tiny checkpoint as init-1; returns its root."""
    as_artifact(tiny_checkpoint, tmp_path / "models", "init-1")
    return tmp_path / "models"


@pytest.fixture
def adapter(store, new_run):
    """A policy's adapter in the store: the policy in memory, and the payload."""
    base = store / "artifacts" / "init-1" / "payload"
    policy = load_policy(base, Runtime(), trainable=True)
    add_adapter(policy, SFTConfig(lora=LoRAConfig(r=2)), base)
    disturb(policy)
    save_model(policy, new_run("sft").out, {"Policy": "for a test"})
    return policy, as_artifact(new_run("sft").out, store, "sft-1")


def test_an_adapter_becomes_a_whole_model_that_transformers_loads(adapter, store, tmp_path):
    policy, path = adapter
    export(path, tmp_path / "out")
    shutil.rmtree(store)
    with torch.no_grad():
        wanted = policy.token_statistics(ROWS).logps
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(torch.tensor([[4, 9, 20, 30, 31, 1]])).logits
    found = logits.log_softmax(-1)[0, 2:5].gather(-1, torch.tensor([[30], [31], [1]]))[:, 0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
        and "Policy" in (tmp_path / "out" / "README.md").read_text()
    )
    assert not {"adapter_config.json", "base.json"} & set(payload_files(tmp_path / "out"))


def test_a_reward_models_adapter_keeps_its_check_rows(store, new_run, tmp_path):
    base = store / "artifacts" / "init-1" / "payload"
    reward = make_reward_model(base)
    add_adapter(reward, RewardConfig(lora=LoRAConfig(r=2)), base)
    disturb(reward)
    save_reward_model(reward, new_run("reward").out, SCORED, {"Reward model": "for a test"})
    export(as_artifact(new_run("reward").out, store, "reward-1", "reward_model"), tmp_path / "out")
    assert load_reward_model(tmp_path / "out", Runtime()).score(SCORED) == pytest.approx(reward.score(SCORED), abs=1e-5)
    assert (tmp_path / "out" / "check_rows.json").is_file()
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.num_labels == 1


def test_a_whole_model_is_copied_as_it_is(tiny_checkpoint, tmp_path):
    export(tiny_checkpoint, tmp_path / "out")
    first, second = (
        {name: file_digest(root / name) for name in payload_files(root)} for root in (tiny_checkpoint, tmp_path / "out")
    )
    assert first == second


def test_an_empty_directory_may_be_there_and_nothing_else(tiny_checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    export(tiny_checkpoint, tmp_path / "empty")
    for place in (tmp_path / "empty", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="not an empty directory"):
            export(tiny_checkpoint, place)


def test_damaged_weights_are_not_exported_and_nothing_is_left(store, tmp_path):
    path = store / "artifacts" / "init-1" / "payload"
    with open(path / "model.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedArtifactError):
        export(path, tmp_path / "target" / "out")
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.parametrize("kind", ["whole", "adapter", "base"])
def test_a_changed_tokenizer_is_not_exported(adapter, store, tmp_path, kind):
    path = store / "artifacts" / "init-1" / "payload" if kind == "whole" else adapter[1]
    changed = (adapter[1] if kind == "adapter" else store / "artifacts" / "init-1" / "payload") / "tokenizer.json"
    before, content = changed.stat(), changed.read_text()
    changed.write_text(content.replace("c", "d", 1))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedArtifactError, match="tokenizer.json"):
        export(path, tmp_path / "target" / "out")
    assert not list((tmp_path / "target").iterdir())


def test_a_failure_in_the_middle_leaves_nothing(adapter, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_checkpoint", fail)
    with pytest.raises(OSError, match="disk full"):
        export(adapter[1], tmp_path / "target" / "out")
    assert not list((tmp_path / "target").iterdir())


def test_an_adapter_whose_base_is_damaged_names_the_base(adapter, store):
    with open(store / "artifacts" / "init-1" / "payload" / "model.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedArtifactError) as error:
        load_policy(adapter[1], Runtime())
    assert error.value.key == "init-1", "so that the flow sets it aside and makes it again"


@pytest.mark.parametrize("kind", ["checkpoint", "reward_model"])
def test_the_code_on_a_card_runs(tiny_checkpoint, tmp_path, monkeypatch, capsys, kind):
    place = tmp_path / "model"
    if kind == "checkpoint":
        export(tiny_checkpoint, place)
    else:
        AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=1).save_pretrained(place)
        AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(place)
    monkeypatch.chdir(tmp_path)
    card = model_card(ModelFacts("Model", "", {}, kind), "model")
    code = card.split("```python\n")[1].split("```")[0]
    exec(compile(code, "card", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.endswith("\n"), "a model that has learnt nothing may end its answer at once"
    assert kind == "checkpoint" or isinstance(float(printed), float)
