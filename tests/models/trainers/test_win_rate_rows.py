"""Best and worst answers with win rates: what is read, and what is no win rate."""

import pytest
import torch
from transformers import AutoTokenizer

from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, user, write_table
from alignflow.models.trainers.win_rate_rows import read_best_and_worst, read_pairs_of_two


def rows(**more):
    own = {"prompt": user("q"), "chosen": assistant("cat"), "rejected": assistant("dog"), "source": "t"}
    return [{"id": str(index), **own, "chosen_ended": True, "rejected_ended": True, **more} for index in range(2)]


@pytest.fixture
def read(tiny_checkpoint, tmp_path, new_run):
    def read(reader, content):
        write_table(content, "preferences", tmp_path / "train.parquet")
        return reader(
            tmp_path / "train.parquet", AutoTokenizer.from_pretrained(tiny_checkpoint), 64, new_run(), "align"
        )

    return read


def test_scores_of_a_table_are_the_win_rates_of_its_answers(read):
    found = read(read_best_and_worst, rows(score_chosen=0.75, score_rejected=0.125))
    torch.testing.assert_close(found.score, torch.tensor([0.75, 0.75, 0.125, 0.125]))


def test_a_score_that_is_no_probability_is_refused(read):
    with pytest.raises(TrainingError, match="the win rates are"):
        read(read_best_and_worst, rows(score_chosen=3.0, score_rejected=0.5))


def test_two_answers_meet_each_other_and_themselves(read):
    """P against both: (1/2 + P) / 2 for the better, and (1/2 + 1 - P) / 2 for the worse."""
    torch.testing.assert_close(read(read_pairs_of_two, rows()).score, torch.tensor([0.75, 0.75, 0.25, 0.25]))
    soft = read(read_pairs_of_two, rows(soft_label=0.7))
    torch.testing.assert_close(soft.score, torch.tensor([0.6, 0.6, 0.4, 0.4]))
