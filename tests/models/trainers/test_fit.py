"""A resumed training sees the rows of an undisturbed one: each row once an epoch, wherever a batch meets the epoch's end."""

import pytest
import torch

from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import TrainingError
from alignflow.models.engines.base import make_engine
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.saved_state import SavedStates

ROWS, TOKENS = 1000, 4
CONFIG = SFTConfig(learning_rate=1e-3, num_train_epochs=2, batch_size=128, save_steps=8, max_length=64)
MICRO_BATCH = 8
DONE = (
    8 * 128 // MICRO_BATCH
)  # passes of 8 updates; the eighth takes the last 104 rows of an epoch and the first 24 of the next


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
    assert len(passes) == 8 * 16 + 8 * 16 - 6 and {len(batch) for batch in passes} == {MICRO_BATCH}, (
        "the last update has 80 rows"
    )
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
        training(
            "killed", seen, {"the third pass of update 9": DONE + 3, "the last update": len(passes) - 1}.get(after)
        )
    monkeypatch.undo()
    assert seen == passes[: len(seen)] and len(seen) >= DONE
    resumed = []
    found = training("killed", resumed)
    assert resumed == passes[DONE:], "after the eighth update: no row is skipped, and none is seen again"
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def two_networks(run, beside_loss, **changes):
    """Train two linear maps, each with an engine of its own; returns both and the metrics."""
    config = CONFIG.model_copy(
        update={"max_steps": 12, "batch_size": 4, "save_steps": 4, "logging_steps": 1, **changes}
    )
    torch.manual_seed(0)
    models = [torch.nn.Linear(3, 1) for _ in range(2)]
    engines = [make_engine(model, config, run.runtime) for model in models]
    inputs = torch.rand(16, 3, generator=torch.Generator().manual_seed(1))

    def compute(batch):
        losses = [(model(inputs[batch]) - 1).square().sum() for model in models]
        return StepOutput(losses[0], beside={"value": beside_loss(losses[1])})

    plan = Plan("align", [TOKENS] * 16, [1.0] * 16, list(map(str, range(16))), beside={"value": engines[1]})
    return models, fit(engines[0], compute, plan, config, run)


def test_a_network_beside_learns_by_its_own_loss_as_if_alone(new_run):
    models, metrics = two_networks(new_run(), lambda loss: loss)
    assert metrics["value/grad_norm"] > 0
    idle, still = two_networks(new_run("idle"), lambda loss: loss * 0.0)
    torch.manual_seed(0)
    start = [torch.nn.Linear(3, 1).weight for _ in range(2)]
    assert torch.equal(idle[1].weight, start[1]) and still["value/grad_norm"] == 0
    assert torch.equal(idle[0].weight, models[0].weight), "the model's own steps do not depend on it"
    assert not torch.equal(models[1].weight, start[1])


def test_a_loss_beside_that_is_not_finite_ends_the_training(new_run):
    with pytest.raises(TrainingError, match="loss is nan"):
        two_networks(new_run(), lambda loss: loss * float("nan"))


def test_a_network_beside_is_saved_and_restored_with_the_model(new_run):
    whole, _ = two_networks(new_run("whole"), lambda loss: loss)
    calls = []

    def dying(loss):
        calls.append(loss)
        if len(calls) == 10:
            raise Killed
        return loss

    with pytest.raises(Killed):
        two_networks(new_run("killed"), dying)
    resumed, _ = two_networks(new_run("killed"), lambda loss: loss)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
