"""How far the probabilities of the engine that samples are from the trainer's."""

import math

import pytest
import torch

from alignflow.models.trainers.figures import point
from alignflow.models.trainers.sampling_mismatch import mismatch_sums, sampling_mismatch


def test_differences_are_absolute_and_ratios_are_the_trainers_over_the_engines_probability():
    found = point(sampling_mismatch(torch.log(torch.tensor([0.5, 0.1])), torch.log(torch.tensor([0.25, 0.2]))))
    assert found == pytest.approx(
        {
            "sampling/sampling_logp_difference/mean": math.log(2),
            "sampling/sampling_logp_difference/max": math.log(2),
            "sampling/importance_sampling_ratio/mean": 1.25,
            "sampling/importance_sampling_ratio/max": 2.0,
            "sampling/importance_sampling_ratio/min": 0.5,
        }
    )


def test_of_no_tokens_there_are_no_figures():
    found = mismatch_sums(torch.empty(0), torch.empty(0))
    assert len(found) == 5 and point(found) == {}
