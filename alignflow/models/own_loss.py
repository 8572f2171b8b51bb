"""A user's own loss as training calls it: its output is checked, so that an error names the function and the line."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from alignflow.data.catalogue import Method
from alignflow.data.errors import AlignflowError, TrainingError, cut
from alignflow.data.own_methods import OwnMethod
from alignflow.data.own_module import short
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch
from alignflow.models.token_statistics import STATISTICS

WHERE = "align.method"
Loss = Callable[[Any, Any], LossOutput]


def loss_of(row: Method) -> Loss:
    """The function of a method; a user's own loss is checked at each call.

    Raises:
        TrainingError: a user's own loss asks for a token statistic that does not exist.
    """
    function = row.resolve()
    if not isinstance(row, OwnMethod):
        return function
    if unknown := [name for name in row.needs if name not in STATISTICS]:
        raise TrainingError(
            f"{short(row.address)} needs {', '.join(unknown)}, but there is no such statistic per token",
            where=WHERE,
            do=f"set needs to names of {', '.join(STATISTICS)}",
        )
    return checked(function, short(row.address))


def checked(function: Loss, name: str) -> Loss:
    """The same loss, which raises TrainingError if it fails, or does not return a loss per row.

    A loss that is not finite is left to the training loop, which names the step and its rows in every process.
    """

    @functools.wraps(function)
    def call(batch: OfflineBatch | PairBatch, options: Any) -> LossOutput:
        try:
            output = function(batch, options)
        except (AlignflowError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise TrainingError(
                f"the loss {name} raised {type(error).__name__}: {cut(str(error))}",
                where=f"{WHERE}, {_line(error, function)}",
                do="correct the loss; the log has the whole traceback",
            ) from error
        if wrong := problem(output, batch):
            raise TrainingError(f"the loss {name} {wrong}", where=WHERE, do="return LossOutput(loss per row, metrics)")
        return output

    return call


def problem(output: Any, batch: OfflineBatch | PairBatch) -> str:
    """What is wrong with what a loss returned for a batch; empty if nothing is."""
    answers = batch.chosen if isinstance(batch, PairBatch) else batch
    rows = answers.groups()[0]
    if not isinstance(output, LossOutput):
        return f"returned {type(output).__name__}, not LossOutput"
    parts = {"loss": output.loss, **({} if output.token_loss is None else {"token_loss": output.token_loss})}
    for name, values in parts.items():
        if not isinstance(values, torch.Tensor):
            return f"returned a {name} that is {type(values).__name__}, not a tensor"
        if values.shape != (rows,):
            return f"returned a {name} of the shape {tuple(values.shape)}; expected ({rows},), a number for each row"
        if values.dtype not in (torch.float32, torch.float64):
            return f"returned a {name} in {values.dtype}; expected float32 or float64"
    if (
        torch.is_grad_enabled()
        and answers.logps.requires_grad
        and not any(part.requires_grad for part in parts.values())
    ):
        return "returned a loss without a gradient: it does not depend on the policy's log-probabilities"
    for name, values in output.metrics.items():
        if not isinstance(values, torch.Tensor) or values.shape != (rows,):
            return f"returned a metric {name!r} that is not a tensor of the shape ({rows},)"
    return ""


def _line(error: BaseException, function: Loss) -> str:
    """The file and the line of the user's function at which it failed."""
    file = sys.modules[function.__module__].__file__ or ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{Path(file).name}, line {lines[-1]}" if lines else Path(file).name
