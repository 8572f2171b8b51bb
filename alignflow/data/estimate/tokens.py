"""How many tokens a stage will count, where the data that was prepared says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alignflow.data.configs.generation import EvaluateConfig, SampleConfig
from alignflow.data.configs.training import RewardConfig, TrainingConfig
from alignflow.data.own_methods import method_row


@dataclass(frozen=True)
class Tokens:
    """A number of tokens; `at_most` where lengths are only bounded."""

    count: float
    at_most: bool


@dataclass(frozen=True)
class Rows:
    """What a training reads.

    Attributes:
        number: Rows (pairs) of its training side; None: not known yet.
        mean_length: Mean tokens of a row (of both sides of a pair together); None: not known.
        longest: Most tokens of one.
    """

    number: int | None
    mean_length: float | None
    longest: int


def training_tokens(config: TrainingConfig, rows: Rows) -> Tokens | None:
    """Tokens of all optimizer steps: `max_steps` batches, or the epochs; None where neither is known."""
    if config.max_steps >= 0:
        seen: float = config.max_steps * config.batch_size
    elif rows.number is not None:
        seen = rows.number * config.num_train_epochs
    else:
        return None
    return Tokens(seen * (rows.mean_length or rows.longest), rows.mean_length is None)


def sampled_tokens(config: SampleConfig, prompts: int | None) -> Tokens | None:
    """Answers times their longest length; None where the number of prompts is not known."""
    known = [number for number in (prompts, config.max_prompts) if number is not None]
    return Tokens(min(known) * config.n * config.max_new_tokens, True) if known else None


def evaluated_tokens(config: EvaluateConfig, prompts: int | None) -> Tokens:
    """Answers of both models."""
    return Tokens(2 * min(config.max_prompts, prompts or config.max_prompts) * config.max_new_tokens, True)


def rows_of(statistics: Mapping[str, Any], kind: str, longest: int, answers: int = 1) -> Rows:
    """Rows of one kind, from the statistics of `prepare`; a pair's length is taken as `answers` times its longer side."""
    found = statistics.get("tables", {}).get(kind)
    if found is None:
        return Rows(None, None, longest)
    mean = found.get("lengths", {}).get("total", {}).get("mean")
    return Rows(found.get("sides", {}).get("train", found.get("kept")), answers * mean if mean else None, longest)


def implied_tokens(
    stage: str, config: Any, statistics: Mapping[str, Any], pairs: int | None, share: float = 1.0
) -> Tokens | None:
    """Tokens of a stage, from its config, the statistics of `prepare` and the number of labelled pairs, as far as these exist.

    `share` is the part of the rows that it reads: of a training by `max_steps` that changes nothing.
    """
    rule = RULES.get(stage)
    tokens = rule(config, statistics, pairs) if rule else None
    if tokens is None or (isinstance(config, TrainingConfig) and config.max_steps >= 0):
        return tokens
    return Tokens(tokens.count * share, tokens.at_most)


def _sft(config: Any, statistics: Mapping[str, Any], pairs: int | None) -> Tokens | None:
    return training_tokens(config, rows_of(statistics, "demonstrations", config.max_length))


def _pairs(config: Any, statistics: Mapping[str, Any], pairs: int | None) -> Tokens | None:
    rows = rows_of(statistics, "preferences", 2 * config.max_length, answers=2)
    return training_tokens(config, rows if pairs is None else Rows(pairs, None, 2 * config.max_length))


def _align(config: Any, statistics: Mapping[str, Any], pairs: int | None) -> Tokens | None:
    """Of data of the family's own kind, else of the pairs that stand in for it, each of whose answers it reads once."""
    family = method_row(config.method).learns_from()
    return _answers(family.feeds[0].kind, family.answers, config, statistics, pairs) if family.feeds else None


def _reward(config: RewardConfig, statistics: Mapping[str, Any], pairs: int | None) -> Tokens | None:
    """Rows of a regression are single answers, which nothing has counted."""
    loss = config.about_loss
    if config.loss == "pointwise":
        return training_tokens(config, Rows(None, None, config.max_length))
    return _answers(loss.kinds[0], loss.answers, config, statistics, pairs)


def _answers(own: str, answers: int, config: Any, statistics: Mapping[str, Any], pairs: int | None) -> Tokens | None:
    """Of the table `own` with so many answers in a row; of pairs where the data has no such table."""
    if own == "preferences" or own not in statistics.get("tables", {}):
        return _pairs(config, statistics, pairs)
    return training_tokens(config, rows_of(statistics, own, answers * config.max_length, answers=answers))


def _prompts(statistics: Mapping[str, Any], kind: str) -> int | None:
    return rows_of(statistics, kind, 0).number


RULES: Mapping[str, Callable[[Any, Mapping[str, Any], int | None], Tokens | None]] = {
    "sft": _sft,
    "reward": _reward,
    "align": _align,
    "sample": lambda config, statistics, pairs: sampled_tokens(config, _prompts(statistics, "prompts")),
    "evaluate": lambda config, statistics, pairs: evaluated_tokens(config, _prompts(statistics, "evaluation")),
}
"""Stage -> its tokens; one that is not here counts none."""
