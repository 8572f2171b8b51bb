"""Checks on fixed prompts that an engine's results agree with the trainer's model, before the engine is used.

In fp32 its greedy tokens must be those of the trainer's model. In bf16 rounding changes some of them, so there the
log-probabilities of the trainer's tokens are compared, each after the same tokens (teacher-forced).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.errors import ModelError
from alignflow.models.batching import EncodedRow
from alignflow.models.generation.base import Generator, Sampling

TEXTS = (
    "The capital of France is",
    "1, 2, 3, 4, 5, 6, 7,",
    "Question: Why do leaves turn red in autumn?\nAnswer:",
    "def add(first, second):\n    return",
    "Once upon a time there was a small house at the edge of a forest. In it lived an old man, who knew the names of all birds, "
    "and a dog that was afraid of none of them. Every morning they went to the river together, whatever the weather was, and",
)
"""Prompts that both continue; the last one fills more than one block of a prefix cache."""
TOKENS = 12
"""Most tokens of each continuation."""
FP32_TOLERANCE = 1e-3
"""Largest allowed difference of a log-probability in fp32; observed differences are below 5e-5."""
TIE = 1e-3
"""Two tokens whose log-probabilities differ by less are both correct greedy choices: rounding decides between them."""
BF16_MEAN, BF16_MOST = 0.1, 0.3
"""Allowed differences of log-probabilities of the trainer's greedy tokens in bf16: on average, and at most."""
USUAL = 10.0
"""Nats: for a token less probable than this, the allowed difference grows with its log-probability, as rounding does."""


@dataclass(frozen=True)
class Expected:
    """Results of the trainer's model.

    Attributes:
        prompts: Token ids.
        tokens: Its greedy tokens after each prompt, stop token included.
        logps: The log-probability of each.
    """

    prompts: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    logps: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Agreement:
    """How well an engine agrees.

    Attributes:
        tokens: Number of compared tokens.
        mean: Mean absolute difference of log-probabilities.
        most: The largest.
        worst: The largest, where that of a token under -USUAL nats is divided by its log-probability and multiplied by USUAL.
    """

    tokens: int
    mean: float
    most: float
    worst: float = 0.0


def expectations(trusted: Generator) -> Expected:
    """Results of the trainer's model, run by its own engine, on the fixed prompts; raises ModelError if none has a token."""
    room = (trusted.context_length or 1_000_000) - TOKENS
    encoded = [trusted.tokenizer(text)["input_ids"][-room:] for text in TEXTS] if room > 0 else []
    prompts = tuple(tuple(ids) for ids in encoded if ids)
    if not prompts:
        raise ModelError("its context leaves no room for a prompt", do="use the engine transformers")
    made = trusted.generate(prompts, Sampling(TOKENS, temperature=0.0), [0] * len(prompts))
    tokens = tuple((*found.ids, *(() if found.stop is None else (found.stop,))) for found in made)
    return Expected(prompts, tokens, forced_logps(trusted, prompts, tokens))


def forced_logps(
    engine: Generator, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
) -> tuple[tuple[float, ...], ...]:
    """The log-probability of each token after the prompt and the tokens before it, by any engine that scores options."""
    options = sorted({token for row in tokens for token in row})
    place = {token: index for index, token in enumerate(options)}
    prefixes = [
        [*prompt, *row[:length]] for prompt, row in zip(prompts, tokens, strict=True) for length in range(len(row))
    ]
    scores = iter(engine.score_options(prefixes, options) if prefixes else [])
    return tuple(tuple(next(scores)[place[token]] for token in row) for row in tokens)


def probe_rows(tokenizer: Any, context_length: int | None) -> list[EncodedRow]:
    """The fixed texts as rows, with the last TOKENS tokens of each to predict; raises ModelError if the context has no room."""
    room = context_length or 1_000_000
    encoded = [tuple(tokenizer(text)["input_ids"][-room:]) for text in TEXTS]
    rows = [EncodedRow(ids[:-TOKENS] or ids[:1], ids[-TOKENS:] if len(ids) > TOKENS else ids[1:]) for ids in encoded]
    if not (rows := [row for row in rows if row.completion_ids]):
        raise ModelError("its context leaves no room for a text of two tokens", do="use the engine transformers")
    return rows


def compared(found: Sequence[float], wanted: Sequence[float]) -> Agreement:
    """How well an engine's log-probabilities agree with the trainer's, token by token; one that is not finite counts as infinitely far."""
    differences = [
        abs(mine - theirs) if math.isfinite(mine) else math.inf for mine, theirs in zip(found, wanted, strict=True)
    ]
    worst = max(difference / max(1.0, -theirs / USUAL) for difference, theirs in zip(differences, wanted, strict=True))
    return Agreement(len(differences), math.fsum(differences) / len(differences), max(differences), worst)


def too_far(agreement: Agreement, precision: str) -> str:
    """The allowed difference, in words, if it is exceeded; empty if an engine agrees."""
    if precision == "bf16":
        near = agreement.mean <= BF16_MEAN and agreement.worst <= BF16_MOST
        allowed = f"allowed in bf16: {BF16_MEAN} and {BF16_MOST}"
    else:
        near, allowed = agreement.worst <= FP32_TOLERANCE, f"allowed in fp32: {FP32_TOLERANCE}"
    return "" if near else f"{allowed}; for a token under -{USUAL:g} nats more, in proportion to its log-probability"


def verify(engine: Generator, expected: Expected, precision: str, who: str) -> Agreement:
    """Compare an engine with the results of the trainer's model.

    Args:
        engine: The engine, which should have the same weights.
        expected: What `expectations` returned.
        precision: fp32 or bf16.
        who: The engine, for the message.

    Raises:
        ModelError: its results differ; names the first tokens, or the log-probabilities, that differ.
    """
    found = forced_logps(engine, expected.prompts, expected.tokens)
    differences = [
        abs(mine - theirs) if math.isfinite(mine) else math.inf
        for row, other in zip(found, expected.logps, strict=True)
        for mine, theirs in zip(row, other, strict=True)
    ]
    agreement = Agreement(len(differences), math.fsum(differences) / len(differences), max(differences))
    if precision == "bf16":
        if agreement.mean > BF16_MEAN or agreement.most > BF16_MOST:
            raise _other_model(
                who,
                f"log-probabilities of {agreement.tokens} tokens differ by {agreement.mean:.3g} on average and {agreement.most:.3g} at most "
                f"(allowed in bf16: {BF16_MEAN} and {BF16_MOST})",
            )
        return agreement
    _same_tokens(engine, expected, agreement, who)
    if agreement.most > FP32_TOLERANCE:
        raise _other_model(
            who, f"log-probabilities differ by up to {agreement.most:.3g} (allowed in fp32: {FP32_TOLERANCE})"
        )
    return agreement


def _same_tokens(engine: Generator, expected: Expected, agreement: Agreement, who: str) -> None:
    made = engine.generate(expected.prompts, Sampling(TOKENS, temperature=0.0), [0] * len(expected.prompts))
    for prompt, wanted, generation in zip(expected.prompts, expected.tokens, made, strict=True):
        got = (*generation.ids, *(() if generation.stop is None else (generation.stop,)))
        if got == wanted:
            continue
        first = next(
            (place for place, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]),
            min(len(got), len(wanted)),
        )
        if first < min(len(got), len(wanted)):
            mine, theirs = engine.score_options([[*prompt, *wanted[:first]]], [got[first], wanted[first]])[0]
            if abs(mine - theirs) < TIE and agreement.most <= FP32_TOLERANCE:
                continue
        raise _other_model(
            who,
            f"after {first} equal greedy tokens it continues with {list(got[first : first + 4])}, the trainer's model with "
            f"{list(wanted[first : first + 4])}; log-probabilities differ by up to {agreement.most:.3g}",
        )


def _other_model(who: str, what: str) -> ModelError:
    return ModelError(
        f"the results of {who} differ from those of the trainer's model: {what}",
        where="generator",
        do="use the engine transformers for this model, and report the problem with the model's config.json",
    )
