"""Distils a teacher on answers that the student samples: an update is answers and one step on the divergence at their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from alignflow.data import catalogue
from alignflow.data.configs.online_preference import DistillationOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.run import Run
from alignflow.models.adapters import save_model
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.evaluators.text_statistics import repetition
from alignflow.models.in_step import passes_in_step
from alignflow.models.losses.base import OfflineBatch, Role
from alignflow.models.policy import Policy
from alignflow.models.rollouts import Rollouts, prompt_order, sample_rollouts
from alignflow.models.trainers.experience import HELDOUT, as_column
from alignflow.models.trainers.figures import alarm_figures, point, sums_of_all
from alignflow.models.trainers.fit import learning_rate
from alignflow.models.trainers.live_models import (
    LiveModels,
    as_rollout_options,
    check_finite,
    check_live,
    live_updates,
    load_live,
)
from alignflow.models.trainers.online_loop import OnlineLoop, Updated, check_updates, sums_of_answers
from alignflow.models.trainers.preference_buffer import PreferenceBuffer
from alignflow.models.trainers.sampling_mismatch import sampling_mismatch
from alignflow.models.trainers.second_models import live_model


def train_online_distillation(config: AlignConfig, *, policy: Path, prompts: Path, run: Run) -> dict[str, float | None]:
    """Distil the teacher of the options into the checkpoint `policy` on its own answers for `prompts`/train.parquet.

    States are kept (`state_schedule.py`), and the answers of the update in progress. Side files are curves.jsonl,
    samples.jsonl and alarms.jsonl. Metrics: the last update's figures, `updates`, `episodes` and `alarms`.

    Raises:
        RecipeError: a name or a combination of options is wrong; nothing was loaded.
        ModelError: the teacher does not load, or has another vocabulary.
        TrainingError: zero updates, no prompts, or a loss that is not finite.
    """
    method = catalogue.look_up(catalogue.METHODS, config.method, "align.method")
    options: DistillationOptions = catalogue.parse_options(method, config.options, "align.options")
    check_live(config, options)
    models = load_live(config, options, run, policy=policy, reference=None, prompts=prompts)
    teacher = live_model(method, options, models.policy, policy, run)
    assert teacher is not None
    total = live_updates(config, options, len(models.prompts))
    check_updates(total)
    training = DistillationTraining(config, method, options, models, teacher, run, total)
    loop = OnlineLoop(training, {"policy": models.engine}, options, run, total, config)
    metrics = loop.run_all()
    card = {
        f"Aligned by {config.method}": f"Aligned by alignflow ({method.summary} arXiv {method.paper}).",
        "updates": str(int(metrics["updates"] or 0)),
        "licences of what went in": licences_of(policy, prompts),
    }
    save_model(models.policy, run.out, card)
    models.stack.close()
    return metrics


class DistillationTraining:
    """Updates on the student's own answers; `OnlineLoop` runs them."""

    def __init__(  # noqa: PLR0913 (resolved names and loaded models)
        self,
        config: AlignConfig,
        method: catalogue.Method,
        options: DistillationOptions,
        models: LiveModels,
        teacher: Policy,
        run: Run,
        total: int,
    ):
        self.config, self.method, self.options, self.models = config, method, options, models
        self.teacher, self.run, self.total = teacher, run, total
        self.loss: Any = method.resolve()
        self.measured = {argument: getattr(options, option) for argument, option in method.measured_with}
        self.buffer = PreferenceBuffer(run)

    def update(self, number: int, show: bool) -> Updated:
        """Answers and one step."""
        rollouts = self._sampled(number)
        texts = rollouts.texts(self.models.policy.tokenizer)
        rate = learning_rate(number, self.total, self.config)
        columns = {
            "val/contain_eos_token": rollouts.ended.double(),
            "completions/mean_length": rollouts.lengths.double(),
            "completions/stop_rate": rollouts.ended.double(),
            "completions/repetition": torch.tensor([repetition(text.split()) for text in texts], dtype=torch.float64),
        }
        if self.models.watcher is not None:
            watched = as_column(self.models.watcher.score(self.models.episodes(rollouts)))
            columns |= {f"objective/{HELDOUT}": watched, f"objective/{HELDOUT}/square": watched.square()}
        share = 1.0 / group.size()  # a total, not a mean: the parts of all processes add up to 1
        sums = sums_of_all(sums_of_answers(columns) | {"episodes": (float(len(texts)), share)})
        sums |= self._step(rollouts, rate, f"align, update {number + 1}")
        self.models.generator.sync(self.models.policy.model)
        self.run.count_tokens(sum(len(row) for row in rollouts.rows) + int(rollouts.lengths.sum()))
        figures = {**point(sums), **rollouts.figures} | {"lr": rate, "episode": (number + 1) * sums["episodes"][0]}
        del figures["episodes"]
        # No reward, and no KL to a reference: the alarms about them do not apply.
        unscored = {"kl": None, "scores": None, "scores_error": None, "heldout": None, "heldout_error": None}
        found = alarm_figures({"objective/scores": (0.0, 0.0), **sums}, f"objective/{HELDOUT}") | unscored
        return Updated(figures, found, self._samples(rollouts, texts) if show else [])

    def _step(self, rollouts: Rollouts, rate: float, where: str) -> dict[str, tuple[float, float]]:
        """One step on the mean divergence over the tokens of all processes."""
        lengths = rollouts.lengths
        tokens = group.sum_all({"tokens": float(lengths.sum())})["tokens"]
        sums = {"divergence": 0.0, "entropy": 0.0}
        policy, logps = self.models.policy, [torch.empty(0)] * len(lengths)
        for places, counts in passes_in_step([len(row) for row in rollouts.rows], policy.runtime.micro_batch_tokens):
            statistics = policy.token_statistics(
                [rollouts.rows[place] for place in places],
                (*self.method.needs, "entropy"),
                reference=self.teacher,
                **self.measured,
            )
            count = len(places)
            batch = OfflineBatch(
                torch.arange(count, device=policy.device),
                torch.full((count,), int(Role.OTHER), device=policy.device),
                statistics.sums(),
                lengths[torch.tensor(places)].to(policy.device),
                rollouts.ended[torch.tensor(places)].to(policy.device),
                None,
                torch.full((count,), float("nan"), device=policy.device),
                statistics.values,
            )
            found = self.loss(batch, self.options)
            assert found.token_loss is not None
            self.models.engine.backward(found.token_loss.sum() * (counts / tokens))
            if counts:
                own = statistics.logps.detach().cpu().split(lengths[torch.tensor(places)].tolist())
                for place, values in zip(places, own, strict=True):
                    logps[place] = values
                sums["divergence"] += float(found.token_loss.detach().double().sum())
                sums["entropy"] += float(statistics.values["entropy"].detach().double().sum())
        total = group.sum_all(sums)
        norm = self.models.engine.step(rate)
        check_finite(total["divergence"], norm, where)
        found = {
            "divergence": (total["divergence"], tokens),
            "policy/entropy_avg": (total["entropy"], tokens),
            "grad_norm": (norm, 1.0),
        }
        if rollouts.behaviour_logps is None:
            return found
        return found | sums_of_all(sampling_mismatch(torch.cat(logps), rollouts.behaviour_logps))

    def _sampled(self, update: int) -> Rollouts:
        """The answers to this process's shard of the update's prompts."""
        found = self.buffer.sampled(update)
        if found is not None:
            return found[0]
        prompts, seed = self.models.prompts, self.config.seed
        share = group.share(prompt_order(len(prompts), update, self.config.batch_size, seed))
        options = as_rollout_options(self.options, 1)
        rollouts = sample_rollouts(self.models.generator, prompts, share, update, options, seed)
        self.buffer.keep_sampled(update, rollouts, len(rollouts.rows))
        return rollouts

    def _samples(self, rollouts: Rollouts, texts: list[str]) -> list[dict[str, Any]]:
        """The first answers of the update, for samples.jsonl."""
        return [
            {
                "prompt": self.models.prompts.rows[int(rollouts.prompts[index])]["prompt"],
                "completion": texts[index],
                "ended": bool(rollouts.ended[index]),
                "tokens": int(rollouts.lengths[index]),
                "score": None,
                "kl": None,
            }
            for index in range(min(self.options.samples, len(texts)))
        ]

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def take_up(self, extra: Mapping[str, Any]) -> None:
        """Called when the weights are loaded; the engine that samples loads them too."""
        self.models.generator.sync(self.models.policy.model)

    def finish(self) -> None:
        """Does nothing: every update has a gradient."""
