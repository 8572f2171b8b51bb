"""Parts of the tables of cases: a case's arguments, and the trainers' sums and means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch

from alignflow.models.losses.ppo import token_weights
from alignflow.models.token_statistics import TokenStatistics

Tensors = Mapping[str, torch.Tensor]
Outputs = dict[str, Any]


class NotHere(Exception):
    """A case asks for a function, an argument, a column or an output that this code does not have."""


class Arguments:
    """Keyword arguments of a case; an argument that nothing read makes the case `not here`.

    Attributes:
        frozen: Names of the values that get no gradient in this case, such as a weight.
    """

    def __init__(self, values: Mapping[str, Any], frozen: Collection[str] = ()):
        self._values = dict(values)
        self.frozen = frozenset(frozen)

    def take(self, default: Any, *names: str) -> Any:
        """The argument with any of these names."""
        found = [self._values.pop(name) for name in names if name in self._values]
        return found[0] if found else default

    def check(self) -> None:
        """Raise NotHere for the arguments that nothing read."""
        if self._values:
            raise NotHere(f"argument {', '.join(sorted(self._values))}")


Caller = Callable[[Tensors, Arguments], Outputs]
"""Calls our function with the inputs of a case."""


class Columns(Mapping[str, torch.Tensor]):
    """Input columns of a case; a missing column, or one that nothing read, makes the case `not here`.

    To test whether a column exists does not count as reading it.
    """

    def __init__(self, values: Mapping[str, torch.Tensor]):
        self._values, self._read = dict(values), set[str]()

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._values:
            raise NotHere(f"column {name} is missing")
        self._read.add(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def check(self) -> None:
        """Raise NotHere for the columns that nothing read."""
        if unread := sorted(set(self._values) - self._read):
            raise NotHere(f"column {', '.join(unread)}")


def token_statistics(values: torch.Tensor, mask: torch.Tensor) -> TokenStatistics:
    """Figures per token in the policy's layout: those under the mask, row after row."""
    mask = mask.bool()
    return TokenStatistics(mask.nonzero()[:, 0], len(mask), {"logps": values[mask]})


def counts(mask: torch.Tensor) -> torch.Tensor:
    """(rows,): tokens under the mask, at least 1."""
    return mask.sum(1).clamp(min=1)


def mean(values: torch.Tensor, mask: torch.Tensor, aggregate: str) -> torch.Tensor:
    """The mean that the online trainer takes of losses or figures per token: over all tokens, or over rows of token means."""
    if aggregate not in ("token", "sequence"):
        raise NotHere(f"aggregate {aggregate}")
    owners = torch.arange(len(mask)).repeat_interleave(mask.shape[1])
    weights = token_weights(mask.bool().flatten(), owners, len(mask), aggregate, torch.float64).view_as(mask)
    denominator = weights.sum() if aggregate == "token" else torch.tensor(float(len(mask)), dtype=torch.float64)
    return (torch.where(mask.bool(), values, torch.zeros_like(values)) * weights).sum() / denominator.clamp(min=1)
