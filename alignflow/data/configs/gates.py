"""Config of a gate: a condition on the metrics of a step, and what a run does where it does not hold."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from alignflow.data.configs.base import Name, StageConfig, runtime_field


class GateConfig(StageConfig):
    """A condition that is checked each time a run passes a step, whether that step ran or was found."""

    name: str | None = runtime_field(
        default=None, pattern=r"^\S{1,128}$", description="What `--approve` and lineage call it; empty: STAGE.METRIC."
    )
    stage: Name = runtime_field(
        description="The step after which it is checked, as `alignflow plan` names it; without a round: every round of it."
    )
    metric: Name = runtime_field(
        description="A metric of that step's manifest, or new/TABLE: rows of a table since this gate last let a run on."
    )
    minimum: float | None = runtime_field(default=None, ge=-1e30, le=1e30, description="Least value that passes.")
    maximum: float | None = runtime_field(default=None, ge=-1e30, le=1e30, description="Largest value that passes.")
    action: Literal["stop", "warn", "ask", "end"] = runtime_field(
        default="stop",
        description="Where it does not pass: stop: the run fails; ask: it waits for a person; warn: it goes on; end: it ends there as finished.",
    )
    why: str = runtime_field(default="", description="Why this limit, and what to look at: for whoever has to decide.")

    @model_validator(mode="after")
    def _has_a_limit(self) -> GateConfig:
        if self.minimum is None and self.maximum is None:
            raise ValueError("a gate needs a minimum or a maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"nothing is at least {self.minimum:g} and at most {self.maximum:g}")
        return self

    @property
    def label(self) -> str:
        """Its name, or the one that stage and metric give it."""
        return self.name or f"{self.stage}.{self.metric}"
