"""Counts requests to a server and their cost, over all threads of a process."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Any

from alignflow.data.configs.server import ServerOptions
from alignflow.data.errors import ModelError

_MILLION = 1_000_000
_FIRST_RATE = 0.5  # tokens per character, before the first reply gives a count: more than texts have


@dataclass
class Estimate:
    """Estimated tokens of a question and most tokens of its reply."""

    prompt: int
    completion: int


@dataclass
class Usage:
    """Counts of one engine.

    Attributes:
        asked: Replies received in this process, unusable ones included.
        retried: Failed tries that were repeated.
        journal: Replies that an earlier process paid for.
        prompt_tokens: Tokens of the questions.
        completion_tokens: Tokens of their replies.
        uncounted: Replies without a count of tokens: the two sums contain an estimate.
        unusable: Replies that no answer could be read from.
        too_long: Questions that the endpoint refused as too long for its model.
    """

    options: ServerOptions
    shares: int = 1
    asked: int = 0
    retried: int = 0
    journal: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    unusable: int = 0
    too_long: int = 0
    _reserved: float = 0.0
    _characters: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def price(self, prompt: int, completion: int) -> float:
        """The price of these tokens; 0 without prices."""
        given, got = self.options.price_per_million_input or 0.0, self.options.price_per_million_output or 0.0
        return (prompt * given + completion * got) / _MILLION

    @property
    def cost(self) -> float | None:
        """The cost of this process, in the options' currency; None without prices."""
        if self.options.price_per_million_input is None:
            return None
        return self.price(self.prompt_tokens, self.completion_tokens)

    def estimate(self, characters: int, most_new: int) -> Estimate:
        """Estimated tokens of a question, from its characters and the rate of earlier ones."""
        with self._lock:
            rate = 1.1 * self.prompt_tokens / self._characters if self._characters else _FIRST_RATE
        return Estimate(math.ceil(characters * rate), most_new)

    def reserve(self, estimate: Estimate) -> None:
        """Reserve the largest cost of a question; raises ModelError if it exceeds what is left of max_cost."""
        if self.options.max_cost is None:
            return
        limit, price = self.options.max_cost / self.shares, self.price(estimate.prompt, estimate.completion)
        with self._lock:
            spent = self.price(self.prompt_tokens, self.completion_tokens)
            if spent + self._reserved + price > limit:
                raise ModelError(
                    f"the next question could exceed max_cost: {spent:.4f} {self.options.currency} of {limit:g} are spent, in {self.asked} replies",
                    where="generator.options.max_cost",
                    do="set it to a larger value and run again: replies that were paid for are kept and not requested again",
                )
            self._reserved += price

    def release(self, estimate: Estimate) -> None:
        """Release what `reserve` reserved."""
        if self.options.max_cost is not None:
            with self._lock:
                self._reserved -= self.price(estimate.prompt, estimate.completion)

    def came(self, estimate: Estimate, characters: int, counted: tuple[int | None, int | None]) -> int:
        """Count a reply; returns its tokens and those of its question, estimated if the endpoint does not say."""
        prompt, completion = counted
        with self._lock:
            self.asked += 1
            self.uncounted += prompt is None or completion is None
            if prompt is not None:
                self._characters += characters
            used = (
                estimate.prompt if prompt is None else prompt,
                estimate.completion if completion is None else completion,
            )
            self.prompt_tokens += used[0]
            self.completion_tokens += used[1]
        return sum(used)

    def count(self, name: str) -> None:
        """Add one to a count."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)

    def too_much_nonsense(self) -> bool:
        """Whether more than the allowed share of the replies, and more than a few, were unusable."""
        with self._lock:
            return self.unusable > max(5.0, self.options.most_nonsense * self.asked)

    def as_json(self) -> dict[str, Any]:
        """Everything, for `side/usage.json`."""
        names = (
            "asked",
            "retried",
            "journal",
            "prompt_tokens",
            "completion_tokens",
            "uncounted",
            "unusable",
            "too_long",
        )
        with self._lock:
            return {name: getattr(self, name) for name in names} | {
                "cost": self.cost,
                "currency": self.options.currency if self.cost is not None else None,
            }

    def in_words(self) -> str:
        """One line for the log."""
        money = "" if self.cost is None else f", {self.cost:.4f} {self.options.currency}"
        parts = [
            f"{self.asked:,} replies ({self.journal:,} more from the journal), {self.prompt_tokens:,} tokens asked, "
            f"{self.completion_tokens:,} answered{money}"
        ]
        for count, what in (
            (self.retried, "tries were repeated"),
            (self.uncounted, "replies had no count of tokens, which is estimated"),
            (self.unusable, "replies could not be used"),
            (self.too_long, "questions were too long for the model"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        return "; ".join(parts)
