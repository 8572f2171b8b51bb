"""An ensemble of reward models on disk: `ensemble.json` names the members, each a reward model of its own, and says how their scores
become one. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from alignflow.data.artifacts import verify_file
from alignflow.data.configs.training import Aggregate
from alignflow.data.errors import ModelError
from alignflow.data.model_references import reference_to, referred
from alignflow.data.run import write_json

ENSEMBLE = "ensemble.json"
DISAGREEMENT = "disagreement"
"""What figures of it are called: the standard deviation of an answer's scores over the members."""


@dataclass(frozen=True)
class Ensemble:
    """What `ensemble.json` says.

    Attributes:
        members: Directories of the members, in their order.
        aggregate: How scores become one: mean, min, uncertainty.
        uncertainty_weight: Weight of the variance, for uncertainty.
    """

    members: tuple[Path, ...]
    aggregate: Aggregate
    uncertainty_weight: float


def is_ensemble(path: Path | str) -> bool:
    """Whether a directory holds an ensemble and not a model."""
    return (Path(path) / ENSEMBLE).is_file()


def write_ensemble(out: Path, members: Sequence[Path], aggregate: Aggregate, uncertainty_weight: float) -> None:
    """Write the ensemble of the models at `members` to the directory `out`; the models stay where they are."""
    references = [reference_to(member, out) for member in members]
    rule = {"aggregate": aggregate, "uncertainty_weight": uncertainty_weight}
    write_json(out / ENSEMBLE, {**rule, "members": references})


def read_ensemble(path: Path) -> Ensemble:
    """The ensemble at a path.

    Raises:
        ModelError: the file says something else, or a member is missing or has changed.
        DamagedArtifactError: the file is not the one that was published.
    """
    path = Path(path).absolute()
    verify_file(path / ENSEMBLE)
    do = "run the recipe that made it again; `alignflow export` writes an ensemble with its members"
    try:
        content = json.loads((path / ENSEMBLE).read_text(encoding="utf-8"))
        references, aggregate, weight = content["members"], content["aggregate"], float(content["uncertainty_weight"])
        places = tuple(
            referred(path, reference, f"member {number}", do) for number, reference in enumerate(references, 1)
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelError(f"{ENSEMBLE} cannot be read as an ensemble", where=str(path), do="write it again") from None
    if not places or aggregate not in get_args(Aggregate):
        what = f"an unknown aggregate {aggregate!r}" if places else "no members"
        raise ModelError(f"{ENSEMBLE} has {what}", where=str(path), do="write it again")
    return Ensemble(places, aggregate, weight)
