"""What samples for a policy in training: an engine that computes elsewhere takes up its weights, and is probed before it samples."""

import pytest
import torch
from live_engine import Elsewhere

from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models.generation import live
from alignflow.models.generation.base import Sampling, make_live_engine
from alignflow.models.generation.live import LiveSampler
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.policy import load_policy
from alignflow.models.rollouts import Rollouts, answer_statistics, encode_prompts, sample_rollouts

OPTIONS = OnlineOptions(response_length=8, rollout_batch_size=3, temperature=0.7)


@pytest.fixture
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime(), trainable=True)


@pytest.fixture
def elsewhere(policy, tiny_checkpoint, monkeypatch):
    engine = Elsewhere(tiny_checkpoint, Runtime())
    monkeypatch.setattr(live, "make_live_engine", lambda *arguments: engine)
    return engine


@pytest.fixture
def sampler(policy, tiny_checkpoint, elsewhere):
    return LiveSampler(policy, tiny_checkpoint, GeneratorConfig(name="vllm"), 64)


@pytest.fixture
def prompts(policy, new_run):
    rows = [{"id": f"q{i}", "prompt": user(f"the {word}")} for i, word in enumerate(("cat", "dog", "red house"))]
    return encode_prompts(rows, policy.tokenizer, 64, new_run())


def learn(policy):
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(1.5)


def rollouts(sampler, prompts, **more):
    return sample_rollouts(sampler, prompts, [(0, 0), (1, 0), (2, 0), (0, 1)], 0, OPTIONS, 0, **more)


def test_weights_are_taken_up_once_after_each_update_and_the_probe_says_how_near_they_are(
    sampler, elsewhere, policy, prompts
):
    first = rollouts(sampler, prompts)
    rollouts(sampler, prompts)
    assert elsewhere.taken == 1
    learn(policy)
    sampler.sync(policy.model)
    assert elsewhere.taken == 1, "only when answers are sampled"
    second = rollouts(sampler, prompts)
    assert elsewhere.taken == 2 and [row.completion_ids for row in second.rows] != [
        row.completion_ids for row in first.rows
    ]
    for found in (first, second):
        assert 0 <= found.figures["sampling/probe_difference_mean"] <= found.figures["sampling/probe_difference"] < 1e-4


def test_an_engine_that_computes_something_else_ends_the_training_with_by_how_much(sampler, elsewhere, policy, prompts):
    rollouts(sampler, prompts)
    elsewhere.off = 0.02
    sampler.sync(policy.model)
    with pytest.raises(
        TrainingError, match=r"differ by 0\.\d+ on average and 0\.\d+ at most \(allowed in fp32: 0\.001"
    ):
        rollouts(sampler, prompts)


def test_the_log_probabilities_of_another_engine_are_kept_as_drawn_and_are_the_trainers_at_that_temperature(
    sampler, policy, prompts
):
    made = rollouts(sampler, prompts)
    wanted = answer_statistics(policy, made.rows, ("logps",), OPTIONS.temperature)["logps"]
    torch.testing.assert_close(made.behaviour_logps, wanted, atol=1e-4, rtol=0)
    assert made.behaviour_logps.shape == (int(made.lengths.sum()),)
    again = Rollouts.from_tensors(made.tensors())
    assert torch.equal(again.behaviour_logps, made.behaviour_logps) and again.figures == made.figures


def test_the_policys_own_model_keeps_none_unless_asked(policy, tiny_checkpoint, prompts):
    own = LiveSampler(policy, tiny_checkpoint, None, 64)
    made = rollouts(own, prompts)
    assert made.behaviour_logps is None and made.figures == {} and not own.foreign
    kept = rollouts(own, prompts, keep_logps=True)
    assert [row.completion_ids for row in kept.rows] == [row.completion_ids for row in made.rows]
    wanted = answer_statistics(policy, made.rows, ("logps",), OPTIONS.temperature)["logps"]
    torch.testing.assert_close(kept.behaviour_logps, wanted, atol=1e-4, rtol=0)


def test_in_a_session_the_weights_stay_those_of_its_beginning_while_the_policy_learns(
    sampler, elsewhere, policy, prompts
):
    before = sampler.generate([[4, 9]], Sampling(8), [1])
    with sampler.session():
        learn(policy)
        sampler.sync(policy.model)
        assert sampler.generate([[4, 9]], Sampling(8), [1]) == before and elsewhere.taken == 1
    sampler.generate([[4, 9]], Sampling(8), [1])
    assert elsewhere.taken == 2


def test_an_engine_without_log_probabilities_is_refused(sampler, elsewhere, prompts, monkeypatch):
    real = TransformersGenerator.generate
    monkeypatch.setattr(
        Elsewhere, "generate", lambda self, ids, sampling, seeds: real(self, ids, Sampling(8), seeds), raising=False
    )
    with pytest.raises(TrainingError, match="gave none log-probabilities"):
        rollouts(sampler, prompts)


def test_an_endpoint_cannot_sample_for_a_policy_in_training(tiny_checkpoint):
    server = GeneratorConfig(name="server", options={"urls": ["http://127.0.0.1:1/v1"], "model": "m"})
    with pytest.raises(RecipeError, match="cannot load the weights"):
        make_live_engine(tiny_checkpoint, Runtime(), server, 64)
