"""A training that makes wanted answers less likely says so; one that does not is silent."""

from dataclasses import replace

import pytest
import torch

from alignflow.data.run import Runtime
from alignflow.models.policy import completion_logps, load_policy
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.displacement import wanted_logps, warn_of_displacement
from alignflow.models.trainers.offline_rows import read_paired


@pytest.fixture
def heldout(tiny_checkpoint, preferences, new_run):
    policy = load_policy(tiny_checkpoint, Runtime())
    return Answers(policy, read_paired(preferences / "heldout.parquet", policy.tokenizer, 64, new_run(), "align"), None)


def test_it_is_the_mean_over_tokens_of_the_chosen_answers(heldout, new_run):
    chosen = list(heldout.rows.answers)[: len(heldout.rows)]
    logps = torch.cat(completion_logps(heldout.policy, chosen, 8192))
    assert wanted_logps(heldout, new_run()) == pytest.approx(float(logps.mean()), rel=1e-5)


def test_answers_are_read_as_their_pass_comes(heldout, new_run, monkeypatch):
    """Held-out answers of a large table do not fit into memory as Python's numbers."""
    asked, most = [], []
    statistics = heldout.policy.token_statistics

    class Watched:
        def __init__(self, answers):
            self.answers = answers

        def __getitem__(self, place):
            asked.append(place)
            return self.answers[place]

    def count(rows, *others, **more):
        most.append(len(asked))
        asked.clear()
        return statistics(rows, *others, **more)

    monkeypatch.setattr(heldout.policy, "token_statistics", count)
    side = replace(heldout, rows=replace(heldout.rows, answers=Watched(heldout.rows.answers)))
    wanted_logps(side, new_run("run", micro_batch_tokens=16))
    assert sum(most) == len(heldout.rows) and max(most) < len(heldout.rows)


@pytest.mark.parametrize(("drop", "said"), [(0.6, True), (0.4, False), (-1.0, False)])
def test_it_is_said_where_the_answers_lose_more_than_the_limit(drop, said, heldout, new_run, capsys):
    now = wanted_logps(heldout, new_run())
    warn_of_displacement(now + drop, heldout, {"eval_logps/rejected": -9.0}, 0.5, new_run())
    assert ("likelihood displacement" in capsys.readouterr().out) is said


def test_without_wanted_answers_there_is_nothing_to_say(heldout, new_run, capsys):
    warn_of_displacement(None, heldout, {}, 0.5, new_run())
    assert not capsys.readouterr().out
