"""The sampling stage: n candidate answers per prompt, each with its own seed, journalled in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from alignflow.data.artifacts import text_digest
from alignflow.data.batch_rendering import encode_every_prompt
from alignflow.data.configs.generation import SampleConfig
from alignflow.data.errors import DataError
from alignflow.data.records import prompt_digest, read_table, row_id, write_table
from alignflow.data.rendering import decode_completion
from alignflow.data.run import Run, Share, write_json
from alignflow.models.generation.base import Generator, Sampling, generator_identity, make_generator, row_seed
from alignflow.models.generation.chat import is_chat
from alignflow.models.generation.chat_sample import ChatTask, chat_sampling
from alignflow.models.generation.journal import RowJournal, RowWork, model_identity

_SHOWN_PROMPTS = 5


@dataclass(frozen=True)
class _Task:
    """One completion to sample: its prompt's row, token ids, and id in the journal."""

    row: int
    prompt: tuple[int, ...]
    seed: int
    identity: str


def sample(config: SampleConfig, *, policy: Path, prompts: Path, run: Run) -> dict[str, float | None]:
    """Sample `config.n` completions for each prompt of `prompts`/train.parquet from the checkpoint `policy`.

    Writes completions/train.parquet in the order of the prompts, and statistics.json. Raises DataError if there
    are no prompts, or if one is too long and `config.truncate` is off.
    """
    made = sample_rows(config, policy, _prompts(config, prompts), run)
    write_table(made, "completions", run.out / "completions" / "train.parquet")
    statistics = completion_statistics(made)
    write_json(run.out / "statistics.json", statistics)
    _warn(statistics, config, run)
    return {
        "prompts": float(len(made)),
        "completions": float(statistics["completions"]),
        "stop_rate": statistics["stop_rate"],
        "tokens/completion_mean": statistics["tokens"]["mean"],
        "duplicates": statistics["duplicates"],
    }


def fill_samples(config: SampleConfig, *, policy: Path, prompts: Path, run: Run, share: Share) -> None:
    """Journal a shard of the completions of `sample`."""
    fill_rows(config, policy, _prompts(config, prompts), run, share)


def _prompts(config: SampleConfig, directory: Path) -> list[dict[str, Any]]:
    rows = read_table(directory / "train.parquet")
    if rows and not (rows := prompts_of_part(rows, config.prompt_part, config.prompt_parts)):
        raise DataError(
            f"no prompt is in part {config.prompt_part} of {config.prompt_parts}",
            where=str(directory),
            do="set rounds.prompt_parts or sample.prompt_parts to a smaller value, or use more prompts",
        )
    rows = chosen_prompts(rows, config.max_prompts)
    if not rows:
        raise DataError("no prompts to sample from", where=str(directory), do="set data.prompts or data.demonstrations")
    return rows


def sample_rows(config: SampleConfig, policy: Path, rows: Sequence[dict[str, Any]], run: Run) -> list[dict[str, Any]]:
    """The completions table of some prompts, in their order; every completion is journalled in `run.rows`."""
    with _sampling(config, policy, rows, run, says_cuts=True) as (tasks, work):
        results = RowJournal(run.rows, run.note).compute(*work)
    return _by_row(rows, tasks, results)


def fill_rows(
    config: SampleConfig, policy: Path, rows: Sequence[dict[str, Any]], run: Run, share: Share, before: int = 0
) -> int:
    """Journal a shard of the completions of `sample_rows`, and return its size; `before` of the stage's rows were done earlier."""
    with _sampling(config, policy, rows, run) as (_, work):
        progress = lambda done, total: run.progress(before + done, before + total, "completions")  # noqa: E731
        return RowJournal(run.rows, run.note).fill(work._replace(progress=progress), share)


@contextmanager
def _sampling(
    config: SampleConfig, policy: Path, rows: Sequence[dict[str, Any]], run: Run, says_cuts: bool = False
) -> Iterator[tuple[Sequence[_Task | ChatTask], RowWork]]:
    """The completions to sample, and the work that samples them with a loaded generator or an endpoint."""
    if is_chat(config.generator):
        with chat_sampling(config, policy, rows, run) as asked:
            yield asked
        return
    with closing(make_generator(policy, run.runtime, config.generator)) as generator:
        ids = encode_prompts(rows, generator, config, run if says_cuts else None)  # of shards the stage alone says it
        model = model_identity(policy)
        tasks = [
            _task(config, model, row, rows[row]["id"], ids[row], index)
            for row in range(len(rows))
            for index in range(config.n)
        ]
        # Neighbours of one length need no padding; the samples of one prompt are adjacent and share its prefill.
        tasks.sort(key=lambda task: (len(task.prompt), task.row))
        identities, sampler = [task.identity for task in tasks], _sampler(config, generator, tasks, run)
        yield (
            tasks,
            RowWork(
                identities, config.batch_size, sampler, lambda done, total: run.progress(done, total, "completions")
            ),
        )


def prompts_of_part(rows: list[dict[str, Any]], part: int, parts: int) -> list[dict[str, Any]]:
    """The rows whose prompt is in a part, from 1 on, by its hash: a prompt stays in its part when others are added or removed."""
    if parts == 1:
        return rows
    return [
        row for row in rows if int(text_digest(f"part/{prompt_digest(row['prompt'])}")[:12], 16) % parts == part - 1
    ]


def chosen_prompts(rows: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """At most `limit` rows, the first by the hash of their prompt, in the order of the table."""
    if limit is None or len(rows) <= limit:
        return rows
    order = sorted(range(len(rows)), key=lambda index: (prompt_digest(rows[index]["prompt"]), index))
    return [rows[index] for index in sorted(order[:limit])]


def encode_prompts(
    rows: Sequence[dict[str, Any]], generator: Generator, config: SampleConfig, run: Run | None = None
) -> list[tuple[int, ...]]:
    """Token ids of each row's prompt, cut from the left if `config.truncate`, which `run` reports; raises DataError for one that is too long."""
    room = config.max_prompt_length
    context = generator.context_length
    if context is not None:
        room = min(room, context - config.max_new_tokens)
    if room < 1:
        raise DataError(
            f"max_new_tokens is {config.max_new_tokens} but the model's context holds {context} tokens",
            where="sample.max_new_tokens",
            do=f"set it to less than {context}, with room for the prompt",
        )
    ids = encode_every_prompt(generator.tokenizer, [row["prompt"] for row in rows])
    fitted = [_fitted(row, found, room, generator, config) for row, found in zip(rows, ids, strict=True)]
    cut = [len(found) for found, kept in zip(ids, fitted, strict=True) if len(kept) < len(found)]
    if cut and run is not None:
        run.warn(
            f"{len(cut)} of {len(rows)} prompts were cut from the left to {room} tokens; the longest had {max(cut)}"
        )
    return fitted


def _fitted(
    row: dict[str, Any], ids: Sequence[int], room: int, generator: Generator, config: SampleConfig
) -> tuple[int, ...]:
    if len(ids) <= room:
        return tuple(ids)
    if config.truncate:
        # The BOS is kept: models are trained with it, and the cut must not remove it.
        bos = [ids[0]] if ids[0] == generator.tokenizer.bos_token_id and room > 1 else []
        return (*bos, *ids[len(ids) - room + len(bos) :])
    if room == config.max_prompt_length:
        limit, advice = f"max_prompt_length is {room}", "set sample.max_prompt_length to a larger value"
    else:
        limit = f"the context of {generator.context_length} leaves {room} with max_new_tokens {config.max_new_tokens}"
        advice = "lower sample.max_new_tokens"
    raise DataError(
        f"the prompt has {len(ids)} tokens, but {limit}",
        where=f"row {row['id']}",
        do=f"{advice}, or set sample.truncate to true to cut long prompts from the left",
    )


def _task(config: SampleConfig, model: str, row: int, name: str, prompt: tuple[int, ...], index: int) -> _Task:
    settings = config.model_dump(include={"max_new_tokens", "temperature", "top_p", "top_k", "seed"})
    settings |= generator_identity(config.generator)
    identity = row_id("completion", model, name, list(prompt), index, settings)
    return _Task(row, prompt, row_seed(config.seed, name, index), identity)


def _sampler(
    config: SampleConfig, generator: Generator, tasks: Sequence[_Task], run: Run
) -> Callable[[list[int]], list[Any]]:
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.top_k)

    def compute(batch: list[int]) -> list[Any]:
        chosen = [tasks[index] for index in batch]
        made = generator.generate([task.prompt for task in chosen], sampling, [task.seed for task in chosen])
        run.count_rows(len(batch))
        run.count_tokens(sum(generation.tokens for generation in made))
        return [
            {
                "text": decode_completion(generator.tokenizer, generation.ids, ended=generation.ended),
                "ended": generation.ended,
                "tokens": generation.tokens,
            }
            for generation in made
        ]

    return compute


def _by_row(
    rows: Sequence[dict[str, Any]], tasks: Sequence[_Task | ChatTask], results: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The completions table; within a row by their index, an order that the stable sort of tasks kept."""
    made = [
        {
            "id": row["id"],
            "source": row["source"],
            "prompt": row["prompt"],
            "completions": [],
            "ended": [],
            "tokens": [],
            **({"reference": row["reference"]} if row.get("reference") else {}),
        }
        for row in rows
    ]
    for task, result in zip(tasks, results, strict=True):
        made[task.row]["completions"].append(result["text"])
        made[task.row]["ended"].append(result["ended"])
        made[task.row]["tokens"].append(result["tokens"])
    return made


def completion_statistics(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Statistics of a completions table: stop rate, lengths in tokens, distinct completions per prompt, samples."""
    tokens = [count for row in rows for count in row["tokens"] if count is not None]  # an endpoint may not count them
    ended = [flag for row in rows for flag in row["ended"]]
    distinct = [len(set(row["completions"])) for row in rows]
    shares = (0.0, 0.1, 0.5, 0.9, 1.0)
    quantiles = {str(share): float(numpy.quantile(tokens, share)) for share in shares} if tokens else None
    uncounted = len(ended) - len(tokens)
    return {
        "prompts": len(rows),
        "completions": len(ended),
        "stop_rate": sum(ended) / len(ended),
        "tokens": {
            "mean": float(numpy.mean(tokens)) if tokens else None,
            "quantiles": quantiles,
            **({"uncounted": uncounted} if uncounted else {}),
        },
        "empty": sum(not text.strip() for row in rows for text in row["completions"]),
        "distinct_per_prompt": float(numpy.mean(distinct)),
        "duplicates": 1 - sum(distinct) / len(ended),
        "prompts_with_one_answer": sum(count == 1 for count in distinct),
        "samples": [
            {"prompt": row["prompt"], "completions": row["completions"], "ended": row["ended"]}
            for row in rows[:_SHOWN_PROMPTS]
        ],
    }


def _warn(statistics: dict[str, Any], config: SampleConfig, run: Run) -> None:
    if uncounted := statistics["tokens"].get("uncounted"):
        run.warn(f"the endpoint did not count the tokens of {uncounted} completions: they are not in the lengths")
    if statistics["stop_rate"] == 0:
        run.warn(
            f"none of {statistics['completions']} completions ended by itself within {config.max_new_tokens} tokens: "
            "the model was not trained to stop, or sample.max_new_tokens is too low"
        )
    if config.n > 1 and statistics["prompts_with_one_answer"] == statistics["prompts"]:
        run.warn(
            "all completions of each prompt are the same, so nothing can be compared: set sample.temperature to a larger value"
        )
