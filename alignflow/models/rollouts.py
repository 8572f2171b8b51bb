"""Answers that a policy samples while it trains: each a pure function of weights, prompt, seed and update."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from alignflow.data.batch_rendering import encode_every_prompt
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.errors import TrainingError
from alignflow.data.rendering import decode_completion
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.generation.base import Generation, Generator, Sampling, row_seed
from alignflow.models.generation.live import LiveSampler
from alignflow.models.in_step import passes_in_step
from alignflow.models.policy import Policy

FIGURE = "figure/"  # prefix of a figure's name among tensors


@dataclass(frozen=True)
class Prompts:
    """The prompts that answers are sampled for.

    Attributes:
        rows: Rows of the prompts table.
        ids: Token ids of each.
    """

    rows: list[dict[str, Any]]
    ids: list[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Rollouts:
    """The answers of one update, in one process.

    Attributes:
        prompts: (rows,) int64: the prompt of each, as a position in `Prompts`; answers to one prompt are adjacent.
        rows: Prompt and answer as token ids; an answer that ended by itself has its stop token.
        ended: (rows,) bool: it stopped by itself; the others were cut at the limit.
        behaviour_logps: (N,) fp32: log-probability of each token under the distribution that it was drawn from; None if the
            policy itself drew it with the weights that are then trained: training's values differ only by rounding.
        figures: Name -> value of this process, for the curves.
    """

    prompts: torch.Tensor
    rows: list[EncodedRow]
    ended: torch.Tensor
    behaviour_logps: torch.Tensor | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def lengths(self) -> torch.Tensor:
        """(rows,) int64: tokens of each answer, stop token included."""
        return torch.tensor([len(row.completion_ids) for row in self.rows], dtype=torch.long)

    def texts(self, tokenizer: Any) -> list[str]:
        """The answers as text, without control tokens."""
        return [
            decode_completion(tokenizer, row.completion_ids[:-1] if ended else row.completion_ids, ended=ended)
            for row, ended in zip(self.rows, self.ended.tolist(), strict=True)
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything as tensors, for a state on disk."""
        own = {} if self.behaviour_logps is None else {"behaviour_logps": self.behaviour_logps}
        shown = {f"{FIGURE}{name}": torch.tensor([value], dtype=torch.float64) for name, value in self.figures.items()}
        return (
            own
            | shown
            | {
                "prompts": self.prompts,
                "ended": self.ended,
                "lengths": self.lengths,
                "prompt_lengths": torch.tensor([len(row.prompt_ids) for row in self.rows], dtype=torch.long),
                "prompt_ids": torch.tensor([token for row in self.rows for token in row.prompt_ids], dtype=torch.long),
                "completion_ids": torch.tensor(
                    [token for row in self.rows for token in row.completion_ids], dtype=torch.long
                ),
            }
        )

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor]) -> Rollouts:
        """What `tensors` described."""
        prompts = tensors["prompt_ids"].split(tensors["prompt_lengths"].tolist())
        completions = tensors["completion_ids"].split(tensors["lengths"].tolist())
        rows = [
            EncodedRow(tuple(prompt.tolist()), tuple(answer.tolist()))
            for prompt, answer in zip(prompts, completions, strict=True)
        ]
        figures = {
            name.removeprefix(FIGURE): float(value) for name, value in tensors.items() if name.startswith(FIGURE)
        }
        return Rollouts(tensors["prompts"], rows, tensors["ended"], tensors.get("behaviour_logps"), figures)


def encode_prompts(rows: list[dict[str, Any]], tokenizer: Any, room: int, run: Run) -> Prompts:
    """The prompts of at most `room` tokens; the others are dropped and counted in a warning.

    Raises:
        TrainingError: none is left.
    """
    ids = [tuple(found) for found in encode_every_prompt(tokenizer, [row["prompt"] for row in rows])]
    kept = [index for index in range(len(rows)) if 0 < len(ids[index]) <= room]
    if len(kept) < len(rows):
        run.warn(
            f"{len(rows) - len(kept)} prompts are over {room} tokens (align.max_length less response_length) and were left out"
        )
    if not kept:
        raise TrainingError(
            "no prompts to sample answers for",
            where="align",
            do="set align.max_length to a larger value, or use shorter prompts",
        )
    return Prompts([rows[index] for index in kept], [ids[index] for index in kept])


def prompt_order(count: int, update: int, per_update: int, seed: int) -> list[tuple[int, int]]:
    """The prompts of an update over all processes: a stream of epochs, each shuffled by seed and epoch number, split into updates.

    Returns (prompt, how often it came before in this update): a new epoch may begin within an update.
    """
    places = range(update * per_update, (update + 1) * per_update)
    shuffled = {epoch: _shuffled(count, seed * 1_000_003 + epoch) for epoch in {place // count for place in places}}
    seen: Counter[int] = Counter()
    order = []
    for place in places:
        prompt = shuffled[place // count][place % count]
        order.append((prompt, seen[prompt]))
        seen[prompt] += 1
    return order


def _shuffled(count: int, seed: int) -> list[int]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed % 2**63)).tolist()


def sample_rollouts(  # noqa: PLR0913 (an answer depends on each)
    generator: Generator | LiveSampler,
    prompts: Prompts,
    chosen: Sequence[tuple[int, int]],
    update: int,
    options: OnlineOptions,
    seed: int,
    keep_logps: bool = False,
) -> Rollouts:
    """`num_generations` answers for each of the `chosen` prompts, drawn from the policy itself: no top-p, no top-k.

    A row's random numbers depend only on seed, update, the prompt's id and the answer's number, not on the process. The
    log-probabilities of an engine's tokens are kept if the engine does not run the trainer's model, or if `keep_logps` asks
    for them. Every process must call it.
    """
    live = generator if isinstance(generator, LiveSampler) else None
    keep_logps = keep_logps or (live is not None and live.foreign)
    tasks = [(prompt, repeat, number) for prompt, repeat in chosen for number in range(options.num_generations)]
    seeds = [
        row_seed(seed, f"{update}/{repeat}/{prompts.rows[prompt]['id']}", number) for prompt, repeat, number in tasks
    ]
    sampling = Sampling(options.response_length, options.temperature, logps=keep_logps)
    made: list[Generation] = [Generation((), False)] * len(tasks)
    order = sorted(range(len(tasks)), key=lambda index: (len(prompts.ids[tasks[index][0]]), index))
    with live.session() if live is not None else contextlib.nullcontext():
        for start in range(0, len(order), options.rollout_batch_size):
            batch = order[start : start + options.rollout_batch_size]
            ids = [prompts.ids[tasks[index][0]] for index in batch]
            answers = generator.generate(ids, sampling, [seeds[index] for index in batch])
            for index, answer in zip(batch, answers, strict=True):
                made[index] = answer
    rows = [
        EncodedRow(prompts.ids[prompt], (*answer.ids, *(() if answer.stop is None else (answer.stop,))))
        for (prompt, _, _), answer in zip(tasks, made, strict=True)
    ]
    return Rollouts(
        torch.tensor([prompt for prompt, _, _ in tasks], dtype=torch.long),
        rows,
        torch.tensor([answer.ended for answer in made], dtype=torch.bool),
        _drawn_logps(made, rows) if keep_logps else None,
        live.figures if live is not None else {},
    )


def _drawn_logps(made: Sequence[Generation], rows: Sequence[EncodedRow]) -> torch.Tensor:
    """(N,) fp32, row after row; raises TrainingError if an engine did not give one for each token."""
    for answer, row in zip(made, rows, strict=True):
        if answer.logps is None or len(answer.logps) != len(row.completion_ids):
            given = "none" if answer.logps is None else str(len(answer.logps))
            raise TrainingError(
                f"the engine gave {given} log-probabilities for an answer of {len(row.completion_ids)} tokens",
                where="align.options.generator",
                do="set it to transformers",
            )
    return torch.tensor([value for answer in made for value in answer.logps or ()], dtype=torch.float32)


@torch.no_grad()
def answer_statistics(
    policy: Policy, rows: Sequence[EncodedRow], which: Sequence[str], temperature: float
) -> dict[str, torch.Tensor]:
    """Statistics of the answers' tokens by a model, as training computes them: name -> (N,) fp32 on the CPU, row after row."""
    parts: list[dict[str, torch.Tensor]] = [{}] * len(rows)
    for batch, _ in passes_in_step([len(row) for row in rows], policy.runtime.micro_batch_tokens):
        statistics = policy.token_statistics([rows[index] for index in batch], tuple(which), temperature=temperature)
        counts = [int(count) for count in statistics.counts()]
        columns = [statistics.values[name].cpu().split(counts) for name in which]
        for place, index in enumerate(batch):
            parts[index] = {name: column[place] for name, column in zip(which, columns, strict=True)}
    return {name: torch.cat([part[name] for part in parts]) for name in which}
