"""What to change where a stage does not fit, each change tried by the same arithmetic before it is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from alignflow.data.estimate.demands import Demand, Settings
from alignflow.data.estimate.place import Need, Offload

MOST_PROCESSES = 64
LORA_RANK = 16

Fits = Callable[[Settings, Need], bool]
Candidates = list[tuple[str, Settings]]
"""Changed settings, as a line of the recipe and as values, the gentlest change first."""


@dataclass(frozen=True)
class Remedy:
    """A change and what would then be needed.

    Attributes:
        change: The recipe's fields and their values.
        need: Memory of one process with it.
        fits: Whether that fits.
    """

    change: str
    need: Need
    fits: bool


def remedies(demand: Demand, stage: str, known: frozenset[str], fits: Fits) -> list[Remedy]:
    """Single changes that make a stage fit, the gentlest first; else all of them together, as far as they go.

    Args:
        demand: The stage's needs as the recipe has them.
        stage: Its section of the recipe.
        known: Fields of the stage's and the engine's configs: what this version does not have is not proposed.
        fits: Whether a need fits the machine, under the settings that it comes from.
    """
    moves = [move for move in MOVES if move.field in known]
    found = [_gentlest(move.candidates(demand.settings, demand, stage), demand, fits) for move in moves]
    if good := [remedy for remedy in found if remedy and remedy.fits]:
        return good
    changes, settings = [], demand.settings
    for move in moves:
        candidates = move.candidates(settings, demand, stage)
        best = _gentlest(candidates, demand, fits)
        if best is None:
            continue
        changes.append(best.change)
        if best.fits:
            return [Remedy(", ".join(changes), best.need, True)]
        settings = dict(candidates)[best.change]
    return [Remedy(", ".join(changes), demand.need(settings), False)] if changes else []


def _gentlest(candidates: Candidates, demand: Demand, fits: Fits) -> Remedy | None:
    """The first that fits, else the last one."""
    remedy = None
    for change, settings in candidates:
        need = demand.need(settings)
        remedy = Remedy(change, need, fits(settings, need))
        if remedy.fits:
            break
    return remedy


def _fewer_rows(settings: Settings, demand: Demand, stage: str) -> Candidates:
    return [(f"{stage}.batch_size: {rows}", replace(settings, rows=rows)) for rows in _halves(settings.rows, 1)]


def _fewer_tokens(settings: Settings, demand: Demand, stage: str) -> Candidates:
    """Down to the longest row: a forward pass holds one at least."""
    least = max(demand.longest_row, 64)
    values = _halves(settings.micro_batch_tokens, least)
    return [(f"engine.micro_batch_tokens: {tokens}", replace(settings, micro_batch_tokens=tokens)) for tokens in values]


def _checkpointing(settings: Settings, demand: Demand, stage: str) -> Candidates:
    if not demand.longest_row or settings.gradient_checkpointing:
        return []
    return [(f"{stage}.gradient_checkpointing: true", replace(settings, gradient_checkpointing=True))]


def _offload(settings: Settings, demand: Demand, stage: str) -> Candidates:
    place = settings.place
    if not demand.longest_row or place.device != "cuda" or place.engine != "deepspeed":
        return []
    larger: dict[str, tuple[Offload, ...]] = {"none": ("optimizer", "all"), "optimizer": ("all",), "all": ()}
    found: Candidates = [
        (f"engine.offload: {value}", replace(settings, place=replace(place, offload=value)))
        for value in larger[place.offload]
        if value == "optimizer" or place.gathers
    ]
    if not place.gathers and not demand.whole:
        moved = replace(place, zero_stage=3, offload="all")
        found.append(("engine.zero_stage: 3, engine.offload: all", replace(settings, place=moved)))
    return found


def _plain_torch(settings: Settings, demand: Demand, stage: str) -> Candidates:
    """One process has nothing to share out, and DeepSpeed keeps a master copy beside its fp32 weights."""
    place = settings.place
    if (
        not demand.longest_row
        or place.engine != "deepspeed"
        or place.processes > 1
        or place.offload != "none"
        or place.gathers
    ):
        return []
    return [("engine.training: torch", replace(settings, place=replace(place, engine="torch", zero_stage=1)))]


def _more_processes(settings: Settings, demand: Demand, stage: str) -> Candidates:
    """On a CPU they help on other machines alone."""
    place, numbers = settings.place, [2**power for power in range(1, MOST_PROCESSES.bit_length())]
    if not demand.longest_row or place.engine != "deepspeed":
        return []
    fields = "engine.nodes" if place.device == "cpu" else "engine.processes times engine.nodes"
    stage_of_zero = 2 if demand.whole else 3
    return [
        (
            f"engine.zero_stage: {stage_of_zero} over {number} processes ({fields})",
            replace(
                settings,
                place=replace(
                    place,
                    zero_stage=stage_of_zero,
                    processes=number,
                    nodes=number if place.device == "cpu" else place.nodes,
                ),
            ),
        )
        for number in numbers
        if number > place.processes
    ]


def _lora(settings: Settings, demand: Demand, stage: str) -> Candidates:
    if not demand.longest_row or settings.lora_rank:
        return []
    return [(f"{stage}.lora: {{r: {LORA_RANK}}}", replace(settings, lora_rank=LORA_RANK))]


def _halves(value: int, least: int) -> list[int]:
    """The value halved again and again, down to `least`."""
    found = []
    while value > least:
        value = max(value // 2, least)
        found.append(value)
    return found


@dataclass(frozen=True)
class Move:
    """One way to need less, and the field that must exist for it."""

    field: str
    candidates: Callable[[Settings, Demand, str], Candidates]


MOVES = (
    Move("batch_size", _fewer_rows),
    Move("micro_batch_tokens", _fewer_tokens),
    Move("gradient_checkpointing", _checkpointing),
    Move("training", _plain_torch),
    Move("offload", _offload),
    Move("processes", _more_processes),
    Move("lora", _lora),
)
"""From those that change a result by rounding alone to the one that trains something else."""
