"""Gates as predicates: what is measured, whether it is met, what was decided, and for how long that holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from alignflow.data.catalogue import suggest
from alignflow.data.configs.gates import GateConfig
from alignflow.data.errors import RecipeError

NEW_ROWS = "new/"
"""Start of the metrics that count rows of a table which a gate has not let through before: new/preferences/train."""

LETS_ON = frozenset({"passed", "warned", "approved"})
"""Verdicts after which a run goes on."""

FAILED = {"stop": "stopped", "warn": "warned", "ask": "asked", "end": "ended"}
"""Action of a gate -> its verdict on a value that does not pass and that nobody approved."""


class GateRecord(BaseModel):
    """One verdict of a gate on one artifact.

    Attributes:
        gate: Label of the gate; `stage` and `metric` are those of its config.
        key: The artifact's key, and `digest`, what it was.
        value: What was measured; None: not measured.
        minimum: Least value that passed, and `maximum`, the largest; None: no such limit.
        action: What the recipe asked for.
        verdict: passed, warned, stopped, ended, asked (nobody has answered yet), approved or refused.
        who: Who answered; empty where nobody was asked.
        comment: What they said.
        run: The recipe's name.
        at: ISO time, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    stage: str
    metric: str
    key: str
    digest: str
    value: float | None
    minimum: float | None
    maximum: float | None
    action: str
    verdict: str
    who: str = ""
    comment: str = ""
    run: str = ""
    at: str = ""

    @property
    def override(self) -> bool:
        """Whether a person let a run on that the recipe would have stopped without asking."""
        return self.verdict == "approved" and self.action in ("stop", "end")

    def same_verdict(self, other: GateRecord) -> bool:
        """Whether another record says the same, at whatever time: nothing new to write down."""
        return self.model_copy(update={"at": ""}) == other.model_copy(update={"at": ""})


def measured(gate: GateConfig, metrics: Mapping[str, float | None]) -> float | None:
    """The value of a gate's metric, None where it was not measured; raises RecipeError where the stage has no such metric."""
    if gate.metric not in metrics:
        raise RecipeError(
            f"{gate.stage} has no metric {gate.metric!r}; it has {', '.join(metrics) or 'none'}",
            where=f"gate {gate.label}",
            do=suggest(gate.metric, metrics),
        )
    return metrics[gate.metric]


def is_met(gate: GateConfig, value: float | None) -> bool:
    """Whether a value is inside the gate's limits; None (not measured) and NaN never are."""
    if value is None or value != value:
        return False
    return (gate.minimum is None or value >= gate.minimum) and (gate.maximum is None or value <= gate.maximum)


def limits(gate: GateConfig | GateRecord) -> str:
    """The limits in words: `at least 0.6`."""
    bounds = [f"at least {gate.minimum:.6g}"] if gate.minimum is not None else []
    bounds += [f"at most {gate.maximum:.6g}"] if gate.maximum is not None else []
    return " and ".join(bounds)


def finding(gate: GateConfig | GateRecord, value: float | None) -> str:
    """What was measured against what is asked for, in one sentence without a full stop."""
    found = "was not measured" if value is None else f"is {value:.6g}"
    return f"{gate.metric} of {gate.stage} {found}, and should be {limits(gate)}"


def approval_holds(record: GateRecord, gate: GateConfig, digest: str) -> bool:
    """Whether a record approves this gate on an artifact with this digest: the same bytes, and limits that are no stricter."""
    return (
        record.verdict == "approved"
        and (record.gate, record.metric, record.digest) == (gate.label, gate.metric, digest)
        and _no_stricter(gate.minimum, record.minimum, 1)
        and _no_stricter(gate.maximum, record.maximum, -1)
    )


def _no_stricter(now: float | None, then: float | None, sign: int) -> bool:
    return now is None or (then is not None and sign * now <= sign * then)
