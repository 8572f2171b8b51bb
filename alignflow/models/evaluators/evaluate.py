"""The stage body `evaluate`: both models answer the same prompts with the same seeds, and all evaluators run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.configs.generation import EvaluateConfig, SampleConfig
from alignflow.data.errors import DataError
from alignflow.data.judging.verdict_table import write_verdicts
from alignflow.data.records import read_table, write_table
from alignflow.data.run import Run, Share, write_json
from alignflow.models.evaluators.base import MODELS, Answer, EvaluationInputs
from alignflow.models.evaluators.shown_samples import Seen, shown_samples, verdict_rows
from alignflow.models.generation.sample import chosen_prompts, fill_rows, sample_rows
from alignflow.models.rewards.verifiers.base import name_of

NO_LIMIT = 10_000_000  # the largest that a recipe may name


def evaluate(  # noqa: PLR0913 (each is an input of the stage)
    config: EvaluateConfig,
    *,
    aligned: Path,
    sft: Path,
    prompts: Path,
    general: Path | None,
    reward_model: Path | None,
    run: Run,
) -> dict[str, float | None]:
    """Compare `aligned` with `sft` on `prompts`/prompts.parquet.

    Writes evaluation.json (all numbers, and which evaluators were skipped and why), the answers of both models, verdicts.parquet
    (each judge's verdict on each prompt; missing without judges) and samples.json (`shown_samples`). Metrics: those of the evaluators.
    Raises DataError if there are no prompts.
    """
    rows = _prompts(config, prompts)
    inputs = EvaluationInputs(config, rows, {}, {"aligned": aligned, "sft": sft}, general, reward_model, run)
    for model in MODELS:
        made = sample_rows(sampling(config), inputs.paths[model], rows, run)
        write_table(made, "completions", run.out / "answers" / f"{model}.parquet")
        inputs.answers[model] = [Answer(row["completions"][0], row["ended"][0], row["tokens"][0]) for row in made]
    details: dict[str, Any] = {"prompts": len(rows), "left_out": {}}
    metrics: dict[str, float | None] = {"prompts": float(len(rows))}
    seen = Seen(config.samples, config.seed, labelling=config.labelling_judge is not None)
    for number, name in enumerate(config.evaluators):
        run.progress(number, len(config.evaluators), "evaluators")
        row = catalogue.look_up(catalogue.EVALUATORS, name, "evaluate.evaluators")
        if missing := [need for need in row.needs if not _has(inputs, need)]:
            details["left_out"][name] = f"the recipe gives no {missing[0]}"
            continue
        found = row.resolve()(inputs)
        details[name] = found.details
        metrics |= found.metrics
        seen.verdicts |= found.verdicts
        seen.rewards |= found.rewards
    samples, details["samples"] = shown_samples(inputs, seen)
    if seen.verdicts:
        write_verdicts(verdict_rows(rows, seen.verdicts), run.out)
    write_json(run.out / "evaluation.json", details)
    write_json(run.out / "samples.json", samples)
    return metrics


def fill_answers(
    config: EvaluateConfig,
    *,
    aligned: Path,
    sft: Path,
    prompts: Path,
    run: Run,
    share: Share,
    **_: Path | None,
) -> None:
    """Journal a shard of both models' answers; the metrics that `evaluate` computes from them are not sharded."""
    rows, paths, done = _prompts(config, prompts), {"aligned": aligned, "sft": sft}, 0
    for model in MODELS:
        done += fill_rows(sampling(config), paths[model], rows, run, share, before=done)


def _prompts(config: EvaluateConfig, directory: Path) -> list[dict[str, Any]]:
    rows = chosen_prompts(read_table(directory / "prompts.parquet"), config.max_prompts)
    if not rows:
        raise DataError(
            "no evaluation prompts", where="evaluate", do="set data.evaluation, or a larger heldout_fraction"
        )
    return rows


def sampling(config: EvaluateConfig, temperature: float | None = None) -> SampleConfig:
    """How both models answer; `temperature` replaces the config's."""
    return SampleConfig(
        n=1,
        max_new_tokens=config.max_new_tokens,
        max_prompt_length=NO_LIMIT,
        truncate=True,
        temperature=config.temperature if temperature is None else temperature,
        top_p=config.top_p,
        seed=config.seed,
        generator=config.generator,
        batch_size=config.batch_size,
    )


def _has(inputs: EvaluationInputs, need: str) -> bool:
    """Whether the inputs have everything that an evaluator needs."""
    present = {
        "judges": bool(inputs.judges),
        "instructions": any(row.get("instructions") for row in inputs.prompts),
        "reward_model": inputs.reward_model is not None,
        "general": inputs.general is not None,
        "lm_eval": inputs.config.lm_eval is not None,
        "verifiable": inputs.config.verifiable is not None or any(name_of(row) for row in inputs.prompts),
    }
    return present[need]
