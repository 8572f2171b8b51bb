"""Samples of a geometric mixture: at the ends those of one model, in between by the distribution that is computed; batches change nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_checkpoint, wide_awake

from alignflow.data.run import Runtime
from alignflow.models.generation.base import Sampling
from alignflow.models.generation.mixture_generator import MixtureGenerator, geometric_mixture
from alignflow.models.generation.transformers_generator import TransformersGenerator

LOGITS = st.lists(st.floats(-20, 20), min_size=3, max_size=3).map(lambda values: torch.tensor(values).double())


@given(LOGITS, LOGITS, st.floats(0, 1), st.floats(-5, 5))
def test_a_mixture_is_a_distribution_between_the_two(policy, reference, weight, constant):
    found = geometric_mixture(policy, reference, weight)
    assert found.exp().sum() == pytest.approx(1)
    assert torch.allclose(found, geometric_mixture(policy + constant, reference, weight), atol=1e-9)
    assert torch.allclose(geometric_mixture(policy, reference, 0.0), policy.log_softmax(-1))
    assert torch.allclose(geometric_mixture(policy, reference, 1.0), reference.log_softmax(-1))
    odds = (1 - weight) * (policy[0] - policy[1]) + weight * (reference[0] - reference[1])
    assert float(found[0] - found[1]) == pytest.approx(float(odds), abs=1e-9)


def test_a_token_that_is_ruled_out_at_a_weight_of_0_makes_no_nan():
    found = geometric_mixture(torch.tensor([0.0, 0.0]), torch.tensor([0.0, -torch.inf]), 0.0)
    assert torch.equal(found.exp(), torch.tensor([0.5, 0.5]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    policy, reference = (make_checkpoint(tmp_path_factory.mktemp(name)) for name in ("policy", "reference"))
    paths = [policy, wide_awake(reference)]
    return [TransformersGenerator(path, Runtime()) for path in paths]


PROMPTS = [(5, 6, 7), (9, 10), (5, 6, 7), (11, 12, 13, 14)]
SAMPLING = Sampling(8)


def test_at_the_ends_it_is_one_of_the_models(models):
    for weight, model in zip((0.0, 1.0), models, strict=True):
        assert MixtureGenerator(*models, weight).generate(PROMPTS, SAMPLING, [1, 2, 3, 4]) == model.generate(
            PROMPTS, SAMPLING, [1, 2, 3, 4]
        )


def test_a_row_depends_on_its_prompt_and_seed_alone(models):
    mixture = MixtureGenerator(*models, 0.5)
    together = mixture.generate(PROMPTS, SAMPLING, [1, 2, 3, 4])
    alone = [
        mixture.generate([prompt], SAMPLING, [seed])[0] for prompt, seed in zip(PROMPTS, (1, 2, 3, 4), strict=True)
    ]
    assert together == alone == mixture.generate(PROMPTS, SAMPLING, [1, 2, 3, 4])
    assert mixture.generate([], SAMPLING, []) == []


def test_first_tokens_are_drawn_from_the_mixture_at_the_temperature(models):
    """2,000 draws against the distribution from both models' own scores."""
    vocabulary = list(range(len(models[0].tokenizer)))
    logps = [torch.tensor(model.score_options([(5, 6, 7)], vocabulary)[0]) for model in models]
    wanted = geometric_mixture(logps[0] / 0.5, logps[1] / 0.5, 0.3).exp()
    draws = MixtureGenerator(*models, 0.3).generate([(5, 6, 7)] * 2000, Sampling(1, temperature=0.5), range(2000))
    counts = torch.zeros(len(wanted))
    for draw in draws:
        counts[draw.stop if draw.ended else draw.ids[0]] += 1
    likely = wanted > 0.01
    error = ((counts / 2000 - wanted) / (wanted * (1 - wanted) / 2000).sqrt())[likely]
    assert error.abs().max() < 5 and likely.sum() > 3
