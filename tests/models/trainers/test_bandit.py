"""A bandit whose optimum is known: one prompt, one token, a reward per word. Each method must come near the best KL-regularised policy."""

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignflow.data.catalogue.policy_gradient_methods import POLICY_GRADIENTS
from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import user, write_table
from alignflow.data.rendering import decode_completion, encode_prompt
from alignflow.data.run import Runtime
from alignflow.models.policy import load_policy
from alignflow.models.trainers.align import align

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
ARMS = {"ant": 0.0, "bee": 1.0, "cow": 0.2, "dog": 0.8, "elk": -0.5, "fox": 0.5}
KL_COEF = 0.25


def reward(prompt, completion, row):
    return ARMS.get(completion.strip(), 0.0)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A one-layer policy over eleven tokens, far from uniform."""
    path = tmp_path_factory.mktemp("bandit")
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *ARMS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<|pad|>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIAL,
        chat_template=TEMPLATES["turns"],
    )
    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            initializer_range=0.12,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def distribution(path):
    """Probabilities of the answer's first token (fp64) and the reward of each token."""
    policy = load_policy(path, Runtime())
    prompt = torch.tensor([encode_prompt(policy.tokenizer, user("ant"))])
    policy.model.set_attn_implementation("eager")
    with torch.no_grad():
        logps = policy.model(prompt).logits[0, -1].double().log_softmax(-1)
    rewards = [reward([], decode_completion(policy.tokenizer, [token]), {}) for token in range(len(logps))]
    return logps, torch.tensor(rewards, dtype=torch.float64)


ONE_PASS = {"num_ppo_epochs": 1, "num_mini_batches": 4}
# With the KL in the reward the optimum is where all answers score alike, so that it is the fixed point of every estimator, whatever it
# divides by. With the KL in the loss it is that of an estimator which does not divide, and of k2, whose gradient is the KL's.
METHODS = {
    "ppo": {"num_ppo_epochs": 4, "num_mini_batches": 2},
    "rloo": {"num_ppo_epochs": 2, "num_mini_batches": 2},
    "grpo": {"kl_in": "reward", "kl_estimator": "k1"},
    "dr_grpo": {"kl_estimator": "k2"},
    "dapo": {"kl_in": "reward", "kl_estimator": "k1"},
    "gspo": {"kl_in": "reward", "kl_estimator": "k1", "cliprange": 0.2, "cliprange_high": 0.2, "num_ppo_epochs": 2},
    "cispo": {"kl_in": "reward", "kl_estimator": "k1"},
    "sapo": {"kl_in": "reward", "kl_estimator": "k1", "num_ppo_epochs": 2},
    "reinforce_pp": {"num_ppo_epochs": 2},
    "reinforce_pp_baseline": {"kl_in": "reward", "kl_estimator": "k1"},
    "spo": {},
}
SMALLER_STEPS = {"sapo": 2}  # no clip ends what a mini-batch pulls at


def test_every_policy_gradient_method_plays():
    assert METHODS.keys() == POLICY_GRADIENTS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_closes_95_percent_of_the_gap_to_the_optimum(method, reference, new_run, tmp_path, monkeypatch):
    """J(p) = E_p[r] - c KL(p, q) has its maximum c log E_q[exp(r / c)], at p ~ q exp(r / c)."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bandit_reward.py").write_text(
        f"ARMS = {ARMS}\ndef reward(prompt, completion, row): return ARMS.get(completion.strip(), 0.0)\n"
    )
    write_table(
        [{"id": "only", "source": "t", "prompt": user("ant"), "instructions": None}],
        "prompts",
        tmp_path / "train.parquet",
    )
    config = AlignConfig(
        method=method,
        learning_rate=2e-2 / SMALLER_STEPS.get(method, 1),
        max_steps=12 * SMALLER_STEPS.get(method, 1),
        batch_size=256,
        max_length=16,
        lr_scheduler_type="linear",
        warmup_ratio=0.0,
        options={
            "response_length": 1,
            "kl_coef": KL_COEF,
            "rollout_batch_size": 256,
            "rewards": [{"name": "function", "options": {"function": "bandit_reward:reward"}}],
            **ONE_PASS,
            **METHODS[method],
        },
    )
    run = new_run()
    align(config, policy=reference, reference=reference, prompts=tmp_path, run=run)
    start, rewards = distribution(reference)
    end, _ = distribution(run.out)

    def objective(logps):
        return float((logps.exp() * (rewards - KL_COEF * (logps - start))).sum())

    optimum = KL_COEF * math.log(float((start.exp() * (rewards / KL_COEF).exp()).sum()))
    closed = (objective(end) - objective(start)) / (optimum - objective(start))
    assert optimum - objective(start) > 0.1, "there is something to gain"
    assert 0.95 <= closed <= 1.0 + 1e-9, closed
