"""A loss of the user's own as training calls it: a mistake in it is told by its name, and its place."""

import pytest
import torch

from alignflow.data.errors import TrainingError
from alignflow.data.own_methods import loaded_method
from alignflow.models.losses import LossOutput, answers_of_tokens, pairs_of_tokens
from alignflow.models.own_loss import loss_of, problem

FILE = """
from alignflow.models.losses import LossOutput, method
@method(family="unpaired", needs={needs})
def mine(batch, options):
    {body}
"""


@pytest.fixture
def loss(tmp_path):
    """The loss with this body, as training calls it."""

    def bound(body, needs=("logps",)):
        (tmp_path / "mine.py").write_text(FILE.format(body=body, needs=needs))
        return loss_of(loaded_method(f"{tmp_path / 'mine.py'}:mine"))

    return bound


@pytest.fixture
def batch():
    """Three answers of two tokens."""
    return answers_of_tokens(torch.zeros(3, 2, requires_grad=True), torch.ones(3, 2), torch.zeros(3, 2))


def test_a_loss_per_row_passes_as_it_is(loss, batch):
    output = loss("return LossOutput(-batch.logratios(), {'rewards': batch.logratios().detach()})")(batch, None)
    assert output.loss.shape == (3,) and output.loss.requires_grad and set(output.metrics) == {"rewards"}
    pairs = pairs_of_tokens((torch.zeros(2, 3), torch.zeros(2, 3)), (torch.ones(2, 3), torch.ones(2, 3)))
    assert problem(LossOutput(torch.zeros(2)), pairs) == "" and problem(LossOutput(torch.zeros(4)), pairs)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return batch.logps", "mine.py:mine returned Tensor, not LossOutput"),
        ("return LossOutput(batch.logps.sum())", r"shape \(\); expected \(3,\)"),
        ("return LossOutput(batch.logps[:2])", r"shape \(2,\); expected \(3,\)"),
        ("return LossOutput(1.0)", "a loss that is float, not a tensor"),
        ("return LossOutput(batch.logps.half())", "in torch.float16; expected float32 or float64"),
        ("return LossOutput(batch.logps.detach())", "without a gradient"),
        ("return LossOutput(batch.logps, {'x': batch.logps.mean()})", "a metric 'x' that is not a tensor"),
        ("return LossOutput(batch.logps, {}, batch.logps.sum())", "a token_loss of the shape"),
        ("return LossOutput(batch.logps[7])", r"raised IndexError: .* \(|raised IndexError"),
        ("return LossOutput(options.beta)", "raised AttributeError"),
    ],
)
def test_what_is_no_loss_per_row_is_refused(body, words, loss, batch):
    with pytest.raises(TrainingError, match=words) as raised:
        loss(body)(batch, None)
    assert "align.method" in str(raised.value)


def test_where_it_failed_is_a_line_of_its_file(loss, batch):
    with pytest.raises(TrainingError, match="mine.py, line 5"):
        loss("return LossOutput(options.beta)")(batch, None)


def test_without_gradients_it_needs_none(loss, batch):
    with torch.no_grad():
        assert loss("return LossOutput(batch.logps.detach())")(batch, None).loss.shape == (3,)


def test_a_figure_per_token_that_does_not_exist_is_refused_before_training(loss):
    with pytest.raises(TrainingError, match="needs surprise, but there is no such statistic per token"):
        loss("pass", needs=("logps", "surprise"))
