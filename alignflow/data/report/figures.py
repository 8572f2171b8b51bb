"""The figures by which runs are compared: win rate, KL, accuracy of the reward model. One that was not measured is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from alignflow.data import own_module
from alignflow.data.artifacts import Manifest
from alignflow.data.step_names import matching

WIN_RATE = "win_rate/"


class Figures(BaseModel):
    """What came of a run, in a few figures.

    Attributes:
        method: The method of its alignment; empty without one.
        judge: Whose win rate it is: the first judge of the evaluation that did not make the labels; the one that did where there is no other.
        win_rate: Of the aligned model over that of SFT, from 0 to 1.
        win_rate_low: Lower end of its interval.
        win_rate_high: Upper end of its interval.
        kl: Of the aligned model from that of SFT, in nats per answer.
        reward_accuracy: Of the reward model on held-out pairs, lists or labels, from 0 to 1.
    """

    method: str = ""
    judge: str = ""
    win_rate: float | None = None
    win_rate_low: float | None = None
    win_rate_high: float | None = None
    kl: float | None = None
    reward_accuracy: float | None = None


def figures_of(steps: Mapping[str, Manifest]) -> Figures:
    """The figures of a run from the manifests of its steps; of several rounds those of the last one."""
    last = {name: steps[found[-1]] for name in ("align", "evaluate", "reward") if (found := matching(steps, name))}
    evaluated = last["evaluate"].metrics if "evaluate" in last else {}
    judge = _judge_of(last["evaluate"]) if "evaluate" in last else ""
    return Figures(
        method=method_of(last["align"]) if "align" in last else "",
        judge=judge.removeprefix(WIN_RATE),
        win_rate=evaluated.get(judge),
        win_rate_low=evaluated.get(f"{judge}/low"),
        win_rate_high=evaluated.get(f"{judge}/high"),
        kl=evaluated.get("kl"),
        reward_accuracy=last["reward"].metrics.get("eval_accuracy") if "reward" in last else None,
    )


def method_of(manifest: Manifest) -> str:
    """The method by which an artifact was trained; empty for one of a stage that has no methods."""
    method: Any = manifest.config.get("method")
    return own_module.short(method) if isinstance(method, str) else ""


def _judge_of(evaluate: Manifest) -> str:
    """The metric of the win rate to show; empty where nothing was compared. The labelling judge's, which training follows, stands first."""
    names = [name for name in evaluate.metrics if _is_win_rate(name)]
    if len(names) > 1 and evaluate.config.get("labelling_judge"):
        del names[0]
    return next((name for name in names if evaluate.metrics[name] is not None), "")


def _is_win_rate(name: str) -> bool:
    return name.startswith(WIN_RATE) and not name.endswith(("/low", "/high"))
