"""What the loop of methods that sample shares with all of them: sums that leave out what is missing, lines for people, its refusals."""

import math

import pytest
import torch

from alignflow.data.errors import TrainingError
from alignflow.models.trainers.online_loop import check_updates, sample_line, shown_scores, sums_of_answers


def test_a_training_without_updates_is_refused():
    check_updates(1)
    with pytest.raises(TrainingError, match="zero updates"):
        check_updates(0)


def test_a_missing_figure_is_left_out_of_sum_and_count():
    found = sums_of_answers({"score": torch.tensor([1.0, math.nan, 2.0]), "none": [math.nan], "length": [3, 4]})
    assert found == {"score": (3.0, 2.0), "none": (0.0, 0.0), "length": (7.0, 2.0)}


def test_a_missing_score_is_shown_as_none_and_zero_as_zero():
    assert shown_scores({"a": torch.tensor([0.0, math.nan])}, 0) == {"a": 0.0}
    assert shown_scores({"a": torch.tensor([0.0, math.nan])}, 1) == {"a": None}


def test_a_line_of_samples_has_prompt_answer_and_how_it_ended():
    line = sample_line({"prompt": "q", "id": "1"}, "text", True, 3, 0.123456)
    assert line == {"prompt": "q", "completion": "text", "ended": True, "tokens": 3, "kl": 0.1235}
