"""A sweep as a table and as a picture of reward against KL."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from alignflow.data.catalogue import FAMILIES
from alignflow.data.report.markdown import escaped, table
from alignflow.data.report.plots import literal

LARGEST_PICTURE = 300_000
"""Characters of the picture in a page; a larger one is left out."""


class Member(Protocol):
    """What came of one member of a sweep; see `flows/sweep.py`."""

    method: str
    family: str
    learning_rate: float
    seed: int | None
    metrics: dict[str, float | None]
    seconds: float | None
    error: str
    not_learnt: str
    rounds: int


M = TypeVar("M", bound=Member)
COLUMNS = ("method", "family", "learning rate", "accuracy or rewards", "win rate", "KL", "length", "seconds")


def cells(member: Member) -> list[str]:
    """The row of a member: its family's own measure on held-out rows, win rates with intervals, KL per answer (nats), mean tokens beside SFT's.

    Of a training in rounds the measure is that of the last one, relative to the model of the round before, and the row says so.
    """
    found = member.metrics
    start = [called(member), member.family, f"{member.learning_rate:g}"]
    if member.error:
        return [*start, member.error, *[""] * (len(COLUMNS) - 4)]
    lengths = _number(found.get("tokens_mean/aligned")), _number(found.get("tokens_mean/sft"))
    seconds = "" if member.seconds is None else f"{member.seconds:.0f}"
    return [
        *start,
        _of_the_last_round(own_measure(found), member.rounds),
        win_rates(found),
        _number(found.get("kl")),
        f"{lengths[0]} / {lengths[1]}" if all(lengths) else "",
        seconds,
    ]


def called(member: Member) -> str:
    """The method, with the seed where the sweep has several."""
    return member.method if member.seed is None else f"{member.method} seed {member.seed}"


def by_family(members: Iterable[M]) -> list[M]:
    """The members in the order of the families; within one in the order in which they came."""
    order = list(FAMILIES)
    return sorted(members, key=lambda member: order.index(member.family))


def doubts(members: Sequence[Member]) -> list[str]:
    """One line for each member whose training seems not to have learnt: a bug until shown otherwise."""
    return [
        f"{called(member)} at {member.learning_rate:g} may not have learnt: {member.not_learnt}"
        for member in by_family(members)
        if member.not_learnt
    ]


def own_measure(found: Mapping[str, float | None]) -> str:
    """Held-out accuracy of the implicit reward; for single answers the mean rewards of good and of bad ones."""
    if (accuracy := found.get("eval_rewards/accuracies")) is not None:
        return f"{accuracy:.3f}"
    good, bad = (_number(found.get(f"eval_rewards/{side}")) for side in ("chosen", "rejected"))
    return f"{good} / {bad}" if good or bad else ""


def _of_the_last_round(measure: str, rounds: int) -> str:
    return f"{measure} (round {rounds} alone)" if measure and rounds > 1 else measure


def win_rates(found: Mapping[str, float | None]) -> str:
    """Each judge's win rate over SFT, with its interval."""
    shown = []
    for name, value in found.items():
        if name.startswith("win_rate/") and value is not None and not name.endswith(("/low", "/high")):
            shown.append(
                f"{name.removeprefix('win_rate/')} {value:.3f} ({_number(found.get(f'{name}/low'))}-{_number(found.get(f'{name}/high'))})"
            )
    return "; ".join(shown)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def markdown(name: str, members: Sequence[Member]) -> str:
    """The table as Markdown, by family, and the members that may not have learnt."""
    lines = [f"# Sweep {name}", "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells(member)) + " |" for member in by_family(members)
    ]
    told = [f"- **Warning:** {doubt}" for doubt in doubts(members)]
    return "\n".join([*lines, *(["", *told] if told else [])]) + "\n"


def page(name: str, members: Sequence[Member], planned: int) -> str:
    """What a server shows of a sweep: how far it is, the table, who may not have learnt, the picture.

    Args:
        name: The recipe's.
        members: What came of those that ended.
        planned: How many there will be.
    """
    image = picture(members)
    uri = "" if image is None else "data:image/png;base64," + base64.b64encode(image).decode()
    parts = [
        f"# Sweep {escaped(name)}",
        f"{len(members)} of {planned} members ended, {sum(bool(member.error) for member in members)} of them without a result.",
        table(COLUMNS, ([escaped(cell) for cell in cells(member)] for member in by_family(members))),
        "\n".join(f"- **Warning:** {escaped(doubt)}" for doubt in doubts(members)),
        f"![win rate against KL]({uri})" if 0 < len(uri) < LARGEST_PICTURE else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def picture(members: Sequence[Member]) -> bytes | None:
    """Win rate against KL, one point per member with both, as a PNG; None where there is no such point. The first judge's rate is drawn."""
    points = []
    for member in members:
        rate = next(
            (value for name, value in member.metrics.items() if name.startswith("win_rate/") and value is not None),
            None,
        )
        kl = member.metrics.get("kl")
        if rate is not None and kl is not None and not member.error:
            points.append((kl, rate, f"{called(member)} {member.learning_rate:g}"))
    if not points:
        return None
    from matplotlib.figure import Figure  # half a second

    figure = Figure(figsize=(9, 6))
    axis = figure.add_subplot()
    axis.scatter([point[0] for point in points], [point[1] for point in points], s=14)
    for kl, rate, name in points:
        axis.annotate(literal(name), (kl, rate), fontsize=6, xytext=(3, 2), textcoords="offset points")
    axis.set(xlabel="KL to the SFT model, nats per answer", ylabel="win rate over the SFT model, first judge")
    axis.axhline(0.5, linestyle="--", linewidth=1, color="#8b949e")
    axis.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
