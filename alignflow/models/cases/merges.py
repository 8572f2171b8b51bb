"""Cases of merges of deltas, and of figures about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from alignflow.models import merging
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors

TOLERANCES = ("tolerance", "tol", "atol", "eps")


def _legal(merge: Callable[[], Any]) -> Outputs:
    """The result of a merge; an argument that it refuses makes the case `not here`."""
    try:
        return {"value": merge()}
    except ValueError as refusal:
        raise NotHere(str(refusal)) from None


def _deltas(inputs: Tensors, arguments: Arguments) -> tuple[list[Any], list[float]]:
    deltas = list(inputs["deltas"])
    weights = inputs["weights"].tolist() if "weights" in inputs else arguments.take(None, "weights")
    return deltas, [1.0] * len(deltas) if weights is None else weights


def _ties(inputs: Tensors, arguments: Arguments) -> Outputs:
    deltas, weights = _deltas(inputs, arguments)
    density, divisor = _required(arguments, "density"), arguments.take("count", "divisor")
    return _legal(lambda: merging.ties_merge(deltas, weights, density, divisor))


def _required(arguments: Arguments, name: str) -> float:
    value = arguments.take(None, name)
    if value is None:
        raise NotHere(f"argument {name} is missing")
    return value


def _dare(inputs: Tensors, arguments: Arguments) -> Outputs:
    delta, mask, density = inputs["delta"], inputs["keep_mask"], _required(arguments, "density")
    return _legal(lambda: merging.dare(delta, density, mask))


def _trim(inputs: Tensors, arguments: Arguments) -> Outputs:
    delta, density = inputs["delta"], _required(arguments, "density")
    return _legal(lambda: merging.magnitude_trim(delta, density))


MERGES: Mapping[str, Caller] = {
    "dare": _dare,
    "l1_penalty": lambda inputs, arguments: {
        "value": merging.l1_penalty([inputs["delta"]], _required(arguments, "lam"))
    },
    "lora_delta": lambda inputs, arguments: {
        "value": merging.lora_delta(inputs["A"], inputs["B"], _required(arguments, "alpha"))
    },
    "magnitude_trim": _trim,
    "slerp": lambda inputs, arguments: {"value": merging.slerp(inputs["a"], inputs["b"], _required(arguments, "t"))},
    "soft_threshold": lambda inputs, arguments: {
        "value": merging.soft_threshold(inputs["delta"], _required(arguments, "threshold"))
    },
    "sparsity": lambda inputs, arguments: {
        "value": merging.sparsity([inputs["delta"]], arguments.take(merging.TOLERANCE, *TOLERANCES))
    },
    "task_arithmetic": lambda inputs, arguments: {"value": merging.task_arithmetic(*_deltas(inputs, arguments))},
    "ties_merge": _ties,
}
"""Name in a case -> function that calls ours."""
