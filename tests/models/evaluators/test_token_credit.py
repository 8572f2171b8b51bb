"""The credit of each token: what one model makes more or less likely than the other."""

import json
import math

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.records import user, write_table
from alignflow.models.batching import EncodedRow
from alignflow.models.evaluators.evaluate import evaluate
from alignflow.models.evaluators.token_credit import FILE, token_texts, top_share
from alignflow.models.policy import completion_logps, load_policy

CONFIG = EvaluateConfig(evaluators=("token_credit",), max_new_tokens=6, samples=1)


@pytest.fixture
def prompts(tmp_path):
    rows = [{"id": f"e{i}", "source": "t", "prompt": user(f"the cat {i}"), "instructions": None} for i in range(3)]
    write_table(rows, "prompts", tmp_path / "evaluation" / "prompts.parquet")
    return tmp_path / "evaluation"


@pytest.fixture(scope="session")
def tokenizer(tiny_checkpoint):
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


@pytest.fixture
def changed(tmp_path, tiny_checkpoint):
    """The tiny model with noise on its weights."""
    (tmp_path / "changed").mkdir()
    directory = make_checkpoint(tmp_path / "changed")
    model = AutoModelForCausalLM.from_pretrained(directory)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    return directory


def ran(run, aligned, sft, prompts):
    metrics = evaluate(CONFIG, aligned=aligned, sft=sft, prompts=prompts, general=None, reward_model=None, run=run)
    details = json.loads((run.out / "evaluation.json").read_text())["token_credit"]
    return metrics, details, pq.read_table(run.out / FILE).to_pylist()


def test_each_token_has_the_log_ratio_of_the_two_models(new_run, tiny_checkpoint, changed, prompts):
    run = new_run()
    metrics, details, table = ran(run, changed, tiny_checkpoint, prompts)
    assert {(row["prompt_id"], row["model"]) for row in table} == {
        (f"e{i}", model) for i in range(3) for model in ("aligned", "sft")
    }
    policies = [load_policy(path, run.runtime) for path in (changed, tiny_checkpoint)]
    for row in table:
        prompt = policies[0].tokenizer.apply_chat_template(
            user(f"the cat {row['prompt_id'][1:]}"), add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        encoded = EncodedRow(tuple(prompt), tuple(row["token_ids"]))
        one, other = (completion_logps(policy, [encoded], 64)[0] for policy in policies)
        assert row["credit"] == pytest.approx((one - other).tolist(), abs=1e-5)
        assert row["running"][-1] == pytest.approx(sum(row["credit"]))
        assert len(row["tokens"]) == len(row["token_ids"])
    assert [answer["model"] for answer in details["answers"]] == ["aligned", "sft"], "the first prompt alone is shown"
    assert 0.1 < metrics["token_credit/top_decile"] <= 1 and details["answers_without_tokens"] == 0


def test_a_model_beside_itself_gives_no_credit(new_run, tiny_checkpoint, prompts):
    metrics, _, table = ran(new_run(), tiny_checkpoint, tiny_checkpoint, prompts)
    assert metrics == {"prompts": 3.0, "token_credit/top_decile": None}
    assert all(value == 0 for row in table for value in row["credit"])


@given(text=st.text(max_size=12))
def test_the_texts_of_tokens_join_to_the_text_of_all(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids) and "".join(texts) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@given(
    values=st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=50),
    top=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_the_top_tokens_have_at_least_their_share_of_all_credit(values, top):
    found = top_share(torch.tensor(values, dtype=torch.float64), top)
    if not any(values):
        assert found is None
        return
    count = math.ceil(len(values) * top)
    assert count / len(values) - 1e-9 <= found <= 1 + 1e-9


def test_equal_credit_has_no_top_and_one_token_can_have_it_all():
    assert top_share(torch.ones(20), 0.1) == pytest.approx(0.1)
    assert top_share(torch.tensor([0.0, -5.0] + [0.0] * 18), 0.1) == 1.0
    assert top_share(torch.zeros(0), 0.1) is None
