"""A value is read at the state BEFORE each token, from the policy's own ids."""

import pytest
import torch
from tests_support import small_tokenizer
from tiny_model import make_reward_model
from transformers import AutoModelForSequenceClassification

from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow
from alignflow.models.reward_model import save_reward_model
from alignflow.models.value_model import make_value_model, same_tokenizer

ROWS = [EncodedRow((4, 9, 20), (30, 31, 1)), EncodedRow((4,), (7, 8))]


@pytest.fixture(scope="module")
def reward_path(tmp_path_factory, tiny_checkpoint):
    path = tmp_path_factory.mktemp("reward")
    save_reward_model(make_reward_model(tiny_checkpoint), path, [], {"Reward model": "for a test"})
    return path


def test_the_value_of_a_token_is_that_of_the_state_before_it(tiny_checkpoint, reward_path):
    """The plain model, cut before each token, has the same estimate at its last place. Tolerance 1e-5 (fp32)."""
    critic = make_value_model("reward_model", tiny_checkpoint, reward_path, Runtime())
    found = critic.values_packed(ROWS)
    plain = AutoModelForSequenceClassification.from_pretrained(reward_path).eval()
    wanted = []
    for row in ROWS:
        for count in range(len(row.completion_ids)):
            ids = torch.tensor([row.prompt_ids + row.completion_ids[:count]])
            wanted.append(plain.score(plain.model(ids).last_hidden_state[0, -1])[0])
    torch.testing.assert_close(found, torch.stack(wanted), atol=1e-5, rtol=1e-5)
    assert found.requires_grad and critic.origin == "reward_model"


def test_on_the_policys_backbone_it_starts_at_zero(tiny_checkpoint):
    critic = make_value_model("auto", tiny_checkpoint, None, Runtime())
    assert not critic.values_packed(ROWS).any() and critic.origin == "policy"
    assert all(parameter.requires_grad for parameter in critic.model.parameters())


def test_auto_takes_the_reward_model_only_where_it_reads_the_policys_ids(tiny_checkpoint, reward_path, tmp_path):
    assert make_value_model("auto", tiny_checkpoint, reward_path, Runtime()).origin == "reward_model"
    other = tmp_path / "other"
    import shutil

    shutil.copytree(reward_path, other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).unlink()
    small_tokenizer(other)
    assert same_tokenizer(tiny_checkpoint, reward_path) and not same_tokenizer(tiny_checkpoint, other)
    assert make_value_model("auto", tiny_checkpoint, other, Runtime()).origin == "policy"
    with pytest.raises(RecipeError, match="another tokenizer"):
        make_value_model("reward_model", tiny_checkpoint, other, Runtime())


def test_values_come_row_by_row_in_any_micro_batches(tiny_checkpoint, reward_path):
    critic = make_value_model("reward_model", tiny_checkpoint, reward_path, Runtime())
    rows = critic.values(ROWS, 4)
    assert [len(row) for row in rows] == [3, 2]
    torch.testing.assert_close(torch.cat(rows), critic.values_packed(ROWS).detach(), atol=1e-5, rtol=1e-5)
