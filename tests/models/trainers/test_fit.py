"""A resumed training sees the rows of an undisturbed one: each row once an epoch, wherever a batch meets the epoch's end."""

import pytest
import torch

from alignflow.data.configs.training import SFTConfig
from alignflow.models.engines.base import make_engine
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.saved_state import SavedStates

ROWS, TOKENS = 1000, 4
CONFIG = SFTConfig(learning_rate=1e-3, num_train_epochs=2, batch_size=128, save_steps=8, max_length=64)
MICRO_BATCH = 8
DONE = 8 * 128 // MICRO_BATCH  # passes of 8 updates; the eighth takes the last 104 rows of an epoch and the first 24 of the next


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.fixture
def training(new_run):
    """Train a linear map on 1,000 rows; returns its weights, and adds the rows of each pass to `passes`."""
    inputs = torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(1))

    def train(name, passes, stop_at_pass=None):
        run = new_run(name, micro_batch_tokens=MICRO_BATCH * TOKENS)
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)

        def compute(batch):
            if len(passes) == stop_at_pass:
                raise Killed
            passes.append(tuple(batch))
            return StepOutput((model(inputs[batch]) - 1).square().sum())

        plan = Plan("sft", [TOKENS] * ROWS, [1.0] * ROWS, list(map(str, range(ROWS))))
        fit(make_engine(model, CONFIG, run.runtime), compute, plan, CONFIG, run)
        return {name: value.detach().clone() for name, value in model.named_parameters()}

    return train


@pytest.fixture
def whole(training):
    """Passes and weights of a training that nothing disturbed."""
    passes = []
    return passes, training("whole", passes)


def flat(passes):
    return [row for batch in passes for row in batch]


def test_each_epoch_has_every_row_once_in_batches_of_128_and_passes_of_8(whole):
    passes, _ = whole
    assert len(passes) == 8 * 16 + 8 * 16 - 6 and {len(batch) for batch in passes} == {MICRO_BATCH}, "the last update has 80 rows"
    rows = flat(passes[:DONE])
    assert len(set(rows[: 7 * 128])) == 7 * 128 and sorted(flat(passes)) == sorted(2 * list(range(ROWS)))


@pytest.mark.parametrize("after", ["the state of update 8 is saved", "the third pass of update 9", "the last update"])
def test_killed_after_update_8_it_goes_on_with_exactly_the_rows_that_are_left(after, whole, training, monkeypatch):
    passes, weights = whole
    seen = []
    if after.startswith("the state"):
        saved = SavedStates.save

        def save_then_die(self, step, *arguments):
            saved(self, step, *arguments)
            raise Killed

        monkeypatch.setattr(SavedStates, "save", save_then_die)
    with pytest.raises(Killed):
        training("killed", seen, {"the third pass of update 9": DONE + 3, "the last update": len(passes) - 1}.get(after))
    monkeypatch.undo()
    assert seen == passes[: len(seen)] and len(seen) >= DONE
    resumed = []
    found = training("killed", resumed)
    assert resumed == passes[DONE:], "after the eighth update: no row is skipped, and none is seen again"
    assert all(torch.equal(found[name], value) for name, value in weights.items())
