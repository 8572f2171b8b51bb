"""Fixed cases of inputs and expected outputs, run through the functions that training calls, in fp64 with gradients.

A file of cases is JSON: `rtol`, `atol`, `grad_rtol`, `grad_atol`, and `cases`, each with `name`, `function`, `inputs`
(arrays), `kwargs`, `expected` (output -> value). A case with gradients also has `grad_of` (an output) and `grads`,
and in `frozen` the names of values without a gradient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignflow.data.errors import DataError
from alignflow.models.cases.base import Arguments, Caller, Columns, NotHere
from alignflow.models.cases.lists import LISTS
from alignflow.models.cases.merges import MERGES
from alignflow.models.cases.online import ONLINE
from alignflow.models.cases.online_preference import ONLINE_PREFERENCE
from alignflow.models.cases.others import OTHERS
from alignflow.models.cases.pairs import PAIRS
from alignflow.models.cases.policy_gradients import POLICY_GRADIENTS
from alignflow.models.cases.self_play import SELF_PLAY
from alignflow.models.cases.token_level import TOKEN_LEVEL
from alignflow.models.cases.unpaired import UNPAIRED

FUNCTIONS: Mapping[str, Caller] = {
    **LISTS,
    **MERGES,
    **ONLINE,
    **ONLINE_PREFERENCE,
    **OTHERS,
    **PAIRS,
    **POLICY_GRADIENTS,
    **SELF_PLAY,
    **TOKEN_LEVEL,
    **UNPAIRED,
}
"""Name in a case -> function that calls ours with the case's inputs."""

TOLERANCES = {"rtol": 1e-10, "atol": 1e-10, "grad_rtol": 1e-6, "grad_atol": 1e-8}


@dataclass(frozen=True)
class CaseResult:
    """The result of a case: `pass`, `miss` or `not here`, and the reason."""

    name: str
    outcome: str
    text: str = ""


def check_file(path: Path) -> Iterator[CaseResult]:
    """The result of each case of a file, each on its own: a case that fails with an error is a miss, and the next one is run.

    Raises DataError if the file is not one of cases.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tolerances = [float(content.get(name, default)) for name, default in TOLERANCES.items()]
        cases = [(case["name"], case["function"], case) for case in content["cases"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not a file of loss cases ({type(error).__name__}: {error})",
            where=str(path),
            do="use the format in docs/methods/policy_gradients.md",
        ) from None
    for name, function, case in cases:
        try:
            text = check_case(function, case, tolerances)
            yield CaseResult(name, "miss" if text else "pass", text)
        except NotHere as reason:
            yield CaseResult(name, "not here", str(reason))
        except Exception as error:  # noqa: BLE001 (an error in one case must not stop the others)
            yield CaseResult(name, "miss", f"{type(error).__name__}: {error}")


def check_case(function: str, case: Mapping[str, Any], tolerances: list[float]) -> str:
    """What is wrong with a case; empty if nothing is. Raises NotHere for what this code does not have."""
    if function not in FUNCTIONS:
        raise NotHere(f"function {function}")
    wanted_gradients = case.get("grads") or {}
    if wanted_gradients and "grad_of" not in case:
        raise ValueError("the case has gradients but does not say of which output: set grad_of")
    inputs = Columns({name: _tensor(value, name in wanted_gradients) for name, value in case["inputs"].items()})
    arguments = Arguments(case.get("kwargs") or {}, case.get("frozen") or {})
    found = FUNCTIONS[function](inputs, arguments)
    arguments.check()
    inputs.check()
    missing = [name for name in case["expected"] if name not in found]
    if missing:
        raise NotHere(f"output {', '.join(missing)}")
    wrong = [_difference(name, found[name], wanted, *tolerances[:2]) for name, wanted in case["expected"].items()]
    if wanted_gradients:
        chosen = [inputs[name] for name in wanted_gradients]
        gradients = torch.autograd.grad(torch.as_tensor(found[case["grad_of"]]), chosen, allow_unused=True)
        for name, gradient, leaf in zip(wanted_gradients, gradients, chosen, strict=True):
            shown = torch.zeros_like(leaf) if gradient is None else gradient
            wrong.append(_difference(f"gradient of {name}", shown, wanted_gradients[name], *tolerances[2:]))
    return "; ".join(text for text in wrong if text)


def _tensor(value: Any, with_gradient: bool) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=with_gradient)


def _difference(name: str, found: Any, wanted: Any, rtol: float, atol: float) -> str:
    ours, theirs = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (found, wanted))
    if ours.shape != theirs.shape:
        return f"{name} has shape {tuple(ours.shape)}, wanted {tuple(theirs.shape)}"
    if torch.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    error = (ours - theirs).abs().max()
    return (
        f"{name} is off by {float(error):.3g}"
        if ours.numel() > 1
        else f"{name} is {float(ours):.12g}, wanted {float(theirs):.12g}"
    )
