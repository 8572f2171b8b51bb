"""Alarms of a training that samples: pure rules over the figures of its updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from alignflow.data.configs.watched import AlarmOptions

Figures = Mapping[str, float | None]
"""Figures of one update: kl, scores, scores_error, heldout, heldout_error, length, repetition, entropy, zero_std; None if there is none.

The errors are standard errors of the means.
"""

History = Sequence[Figures]


@dataclass(frozen=True)
class Alarm:
    """A condition that became true.

    Attributes:
        name: The rule.
        text: Message for a person.
        figures: Its numbers.
    """

    name: str
    text: str
    figures: dict[str, float]


def ringing(history: History, options: AlarmOptions) -> list[Alarm]:
    """All alarms whose condition holds at the last update of the history."""
    found = (rule(history, options) for rule in RULES.values())
    return [alarm for alarm in found if alarm is not None]


def _kl(history: History, options: AlarmOptions) -> Alarm | None:
    kl = history[-1]["kl"]
    if kl is None or kl <= options.kl_limit:
        return None
    text = f"the KL to the reference is {kl:.2f} nats per answer, over {options.kl_limit:g}: set a smaller learning_rate or a larger kl_coef"
    return Alarm("kl", text, {"kl": kl, "limit": options.kl_limit})


def _reward_hacking(history: History, options: AlarmOptions) -> Alarm | None:
    """The reward rose and the held-out judge fell since the window at which that judge was best (Gao et al. 2022, arXiv 2210.10760).

    Updates in which that judge gave no score are in no window.
    """
    window = options.window
    history = [figures for figures in history if figures["heldout"] is not None]
    if len(history) < 2 * window:
        return None
    starts = range(len(history) - 2 * window + 1)
    best = max(starts, key=lambda start: _mean(history[start : start + window], "heldout"))
    then, now = history[best : best + window], history[-window:]
    rise, fall = _change(then, now, "scores"), _change(then, now, "heldout")
    if rise <= options.standard_errors or fall >= -options.standard_errors:
        return None
    figures = {
        f"{name}/{time}": _mean(part, name)
        for name in ("scores", "heldout")
        for time, part in (("then", then), ("now", now))
    }
    text = (
        f"the score rose from {figures['scores/then']:.3f} to {figures['scores/now']:.3f} while the held-out judge fell from "
        f"{figures['heldout/then']:.3f} to {figures['heldout/now']:.3f}: the policy may exploit its reward"
    )
    return Alarm("reward_hacking", text, figures)


def _length(history: History, options: AlarmOptions) -> Alarm | None:
    then, now = _ends(history, options.window, "length")
    if then is None or now is None or 1 / options.length_factor <= now / then <= options.length_factor:
        return None
    return Alarm("length", f"answers went from {then:.1f} to {now:.1f} tokens", {"then": then, "now": now})


def _repetition(history: History, options: AlarmOptions) -> Alarm | None:
    then, now = _ends(history, options.window, "repetition")
    if then is None or now is None or now - then <= options.repetition_rise:
        return None
    return Alarm(
        "repetition",
        f"the share of repeated word 3-grams went from {then:.2f} to {now:.2f}",
        {"then": then, "now": now},
    )


def _entropy(history: History, options: AlarmOptions) -> Alarm | None:
    then, now = _ends(history, options.window, "entropy")
    if then is None or now is None or now >= options.entropy_share * then:
        return None
    text = f"the entropy per token went from {then:.3f} to {now:.3f} nats: the policy explores very little"
    return Alarm("entropy", text, {"then": then, "now": now})


def _zero_variance(history: History, options: AlarmOptions) -> Alarm | None:
    """Over the last window nearly all prompts had answers with equal scores, which give no gradient."""
    shares = [figures.get("zero_std") for figures in history[-options.window :]]
    known = [share for share in shares if share is not None]
    if len(known) < options.window or fmean(known) < options.zero_std_share:
        return None
    text = (
        f"the answers to {fmean(known):.0%} of the prompts have equal scores, over {options.window} updates, and give no gradient; "
        "set dynamic_sampling or a larger num_generations, or use other prompts"
    )
    return Alarm("zero_variance", text, {"share": fmean(known), "limit": options.zero_std_share})


RULES: Mapping[str, Callable[[History, AlarmOptions], Alarm | None]] = {
    "kl": _kl,
    "reward_hacking": _reward_hacking,
    "length": _length,
    "repetition": _repetition,
    "entropy": _entropy,
    "zero_variance": _zero_variance,
}


def _mean(part: History, name: str) -> float:
    return fmean(figures[name] for figures in part)  # type: ignore[misc]


def _ends(history: History, window: int, name: str) -> tuple[float | None, float | None]:
    """The means of the first and of the last window; None while they overlap."""
    if len(history) < 2 * window:
        return None, None
    return _mean(history[:window], name), _mean(history[-window:], name)


def _change(then: History, now: History, name: str) -> float:
    """The difference of two windows' means, in its standard errors; 0 over 0 is no change."""
    errors = [
        math.fsum((figures[f"{name}_error"] or 0.0) ** 2 for figures in part) / len(part) ** 2 for part in (then, now)
    ]
    difference, error = _mean(now, name) - _mean(then, name), math.sqrt(sum(errors))
    return difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0
