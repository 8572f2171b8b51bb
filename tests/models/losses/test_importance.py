"""Corrections for answers that another engine drew: by hand, in each mode."""

import pytest
import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.losses.importance import importance

ROWS = torch.tensor([0, 0, 1])
RATIOS = torch.tensor([2.0, 5.0, 0.1], dtype=torch.float64)
MODES = {  # bounds 0.5 and 3; the first answer's ratio is 10, the second's 0.1
    "token_truncate": [2.0, 3.0, 0.5],
    "token_mask": [2.0, 0.0, 0.0],
    "sequence_truncate": [3.0, 3.0, 0.5],
    "sequence_mask": [0.0, 0.0, 0.0],
}


def found(mode, mask=(True, True, True), **options):
    given = {"importance_sampling_clip_max": 3.0, "importance_sampling_clip_min": 0.5, **options}
    mask = torch.tensor(mask)
    behaviour = torch.where(mask, -1.0 - RATIOS.log(), torch.nan)
    return importance(
        torch.full((3,), -1.0, dtype=torch.float64),
        behaviour,
        ROWS,
        mask,
        OnlineOptions(importance_sampling_mode=mode, **given),
    )


@pytest.mark.parametrize("mode", MODES)
def test_weights_by_mode(mode):
    seen = found(mode)
    torch.testing.assert_close(seen.weights, torch.tensor(MODES[mode], dtype=torch.float64))
    torch.testing.assert_close(seen.differences, RATIOS.log().abs())
    assert seen.outside.tolist() == ([False, True, True] if mode.startswith("token") else [True, True, True])


def test_without_the_correction_the_figures_stay():
    seen = found("token_truncate", importance_sampling_correction=False)
    assert seen.weights.tolist() == [1, 1, 1] and not seen.outside.any()
    torch.testing.assert_close(seen.ratios, RATIOS)


def test_a_masked_token_is_in_no_ratio():
    seen = found("sequence_truncate", (True, False, True), importance_sampling_clip_min=None)
    torch.testing.assert_close(seen.weights, torch.tensor([2.0, 1.0, 0.1], dtype=torch.float64))
    assert seen.differences[1] == 0 and not seen.outside.any()


def test_an_engine_that_agrees_weighs_1():
    logps = torch.tensor([-0.3, -2.0, -1.0])
    for mode in MODES:
        seen = importance(logps, logps, ROWS, torch.ones(3).bool(), OnlineOptions(importance_sampling_mode=mode))
        assert seen.weights.tolist() == [1, 1, 1]
