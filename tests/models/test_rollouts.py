"""Sampled answers: a pure function of weights, prompt, seed and update, from the policy that is in training itself."""

import pytest
import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models import attention
from alignflow.models.batching import EncodedRow
from alignflow.models.generation.base import Sampling, make_live_generator
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.policy import load_policy
from alignflow.models.rollouts import (
    Prompts,
    Rollouts,
    answer_statistics,
    encode_prompts,
    prompt_order,
    sample_rollouts,
)

OPTIONS = OnlineOptions(response_length=8, rollout_batch_size=4)


@pytest.fixture
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime(), trainable=True)


@pytest.fixture
def generator(policy):
    return make_live_generator(policy.model, policy.tokenizer, Runtime())


@pytest.fixture
def prompts(policy, new_run):
    rows = [
        {"id": f"q{i}", "prompt": user(f"the {word}")}
        for i, word in enumerate(("cat", "dog", "small bird", "red house"))
    ]
    return encode_prompts(rows, policy.tokenizer, 64, new_run())


def test_a_live_generator_draws_what_a_loaded_one_draws(policy, generator, tiny_checkpoint):
    loaded, ids = TransformersGenerator(tiny_checkpoint, Runtime()), [[4, 9, 20], [4, 5]]
    assert generator.generate(ids, Sampling(8), [1, 2]) == loaded.generate(ids, Sampling(8), [1, 2])


def test_a_live_generator_shares_the_weights_and_gives_the_attention_back(policy, generator):
    row = EncodedRow((4, 9, 20), (30, 31, 1))
    before = policy.token_statistics([row]).logps
    first = generator.generate([[4, 9, 20]], Sampling(8), [1])
    assert policy.model.config._attn_implementation == attention.NAME
    policy.token_statistics([row]).logps.sum().backward()
    torch.testing.assert_close(policy.token_statistics([row]).logps, before)
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.mul_(3.0)
    generator.sync(policy.model)
    assert generator.generate([[4, 9, 20]], Sampling(8), [1]) != first


def test_a_loaded_generator_takes_up_weights(policy, tiny_checkpoint):
    loaded = TransformersGenerator(tiny_checkpoint, Runtime())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.mul_(3.0)
    live = make_live_generator(policy.model, policy.tokenizer, Runtime())
    loaded.sync(policy.model)
    assert loaded.generate([[4, 5]], Sampling(8), [7]) == live.generate([[4, 5]], Sampling(8), [7])


def test_an_answer_depends_on_seed_update_prompt_and_number_not_on_its_neighbours(generator, prompts):
    def answers(chosen, update=0, seed=0, **options):
        made = sample_rollouts(generator, prompts, chosen, update, OPTIONS.model_copy(update=options), seed)
        return [row.completion_ids for row in made.rows]

    whole = answers([(0, 0), (1, 0), (2, 0), (3, 0)])
    assert answers([(3, 0), (1, 0)]) == [whole[3], whole[1]] and answers([(2, 0)], rollout_batch_size=1) == [whole[2]]
    assert (
        answers([(0, 0)], update=1) != whole[:1]
        and answers([(0, 0)], seed=1) != whole[:1]
        and answers([(0, 1)]) != whole[:1]
    )
    twice = answers([(0, 0)], num_generations=2)
    assert twice[0] == whole[0] and twice[1] != twice[0]


def test_an_answer_that_ended_has_its_stop_token_and_one_that_was_cut_has_none(policy, generator, prompts):
    eos = policy.tokenizer.eos_token_id
    with torch.no_grad():
        head = policy.model.get_output_embeddings().weight
        head[eos] = (
            head.mean(0) + 0.02 * torch.randn(head.shape[1], generator=torch.Generator().manual_seed(0)) + head[5]
        )
    made = sample_rollouts(
        generator,
        prompts,
        [(index % 4, index // 4) for index in range(64)],
        0,
        OPTIONS.model_copy(update={"response_length": 60, "rollout_batch_size": 64}),
        0,
    )
    assert made.ended.any()
    for row, ended in zip(made.rows, made.ended.tolist(), strict=True):
        assert (row.completion_ids[-1] == eos) == ended and eos not in row.completion_ids[:-1]
        assert ended or len(row.completion_ids) == 60
    texts = made.texts(policy.tokenizer)
    assert all("<|end|>" not in text for text in texts)
    assert Rollouts.from_tensors(made.tensors()).rows == made.rows


def test_log_probabilities_are_those_at_the_sampling_temperature(policy):
    row = EncodedRow((4, 9, 20), (30, 31, 1))
    ids = torch.tensor([row.prompt_ids + row.completion_ids])
    found = answer_statistics(policy, [row], ("logps", "entropy"), 0.5)
    policy.model.set_attn_implementation("eager")
    logps = (policy.model(ids).logits[0, 2:5] / 0.5).log_softmax(-1)
    torch.testing.assert_close(found["logps"], logps.gather(1, ids[0, 3:, None])[:, 0].detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["entropy"], -(logps.exp() * logps).sum(1).detach(), atol=1e-5, rtol=1e-5)


def test_every_prompt_comes_once_per_epoch_and_a_repeat_within_an_update_is_numbered():
    first, second = prompt_order(6, 0, 3, 0), prompt_order(6, 1, 3, 0)
    assert sorted(prompt for prompt, _ in first + second) == list(range(6)) and prompt_order(6, 0, 3, 1) != first
    round_trip = prompt_order(2, 0, 6, 0)
    assert sorted(round_trip) == [(prompt, repeat) for prompt in (0, 1) for repeat in (0, 1, 2)]


def test_prompts_without_room_are_left_out(policy, new_run):
    run = new_run()
    rows = [{"id": "a", "prompt": user("cat")}, {"id": "b", "prompt": user("cat " * 40)}]
    found = encode_prompts(rows, policy.tokenizer, 20, run)
    assert (
        isinstance(found, Prompts)
        and [row["id"] for row in found.rows] == ["a"]
        and "1 prompts are over 20 tokens" in run.warnings[0]
    )
