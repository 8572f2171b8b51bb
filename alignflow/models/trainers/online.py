"""Trains on answers that the policy samples: an update is rollouts, scores, advantages and steps. No method's name is known here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.adapters import save_model
from alignflow.models.checkpoints import licences_of
from alignflow.models.evaluators.text_statistics import repetition
from alignflow.models.rewards.shaping import ScoreScale, adaptive_kl_coefficient
from alignflow.models.rewards.sources import Episode
from alignflow.models.rollouts import Rollouts, answer_statistics
from alignflow.models.trainers.alarms import ringing
from alignflow.models.trainers.event_files import EventFiles
from alignflow.models.trainers.experience import (
    HELDOUT,
    Scored,
    as_column,
    experience_sums,
    make_experience,
    score_scale,
)
from alignflow.models.trainers.figures import alarm_figures, point, rounded, sums_of_all
from alignflow.models.trainers.fit import learning_rate
from alignflow.models.trainers.kept_lines import KeptLines
from alignflow.models.trainers.participants import Bound, Participants, bind, load_participants, total_updates
from alignflow.models.trainers.rollout_buffer import RolloutBuffer
from alignflow.models.trainers.rollout_source import RolloutSource
from alignflow.models.trainers.saved_state import SavedStates
from alignflow.models.trainers.update import Rates, take_steps

GOOD = "good"


def train_online(  # noqa: PLR0913 (an input of the stage each)
    config: AlignConfig,
    *,
    policy: Path,
    reference: Path | None,
    prompts: Path,
    reward_model: Path | None = None,
    demonstrations: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Align the checkpoint `policy` on answers that it samples for `prompts`/train.parquet, by a method of the catalogue.

    A state is kept after every update, and the answers of the update in progress after sampling and after scoring.
    Beside the artifact stand curves.jsonl, samples.jsonl and alarms.jsonl. Metrics: the last update's figures by TRL's
    names, `updates`, `episodes` and `alarms`.

    Raises:
        RecipeError: a name or a combination of options is wrong; nothing was loaded.
        TrainingError: zero updates, no prompts, an update without any score, or a loss that is not finite.
    """
    bound = bind(config)
    participants = load_participants(
        bound,
        {
            "policy": policy,
            "reference": reference,
            "prompts": prompts,
            "reward_model": reward_model,
            "demonstrations": demonstrations,
        },
        run,
    )
    total = total_updates(bound, len(participants.prompts))
    if total == 0:
        raise TrainingError("zero updates", where="align", do="raise max_steps, total_episodes or num_train_epochs")
    training = OnlineTraining(bound, participants, run, total)
    metrics = training.run_all()
    card = {
        f"Aligned by {config.method}": f"Aligned by alignflow ({bound.method.summary} arXiv {bound.method.paper}).",
        "updates": str(int(metrics["updates"] or 0)),
        "rewards": ", ".join(participants.rewards.names),
        "licences of what went in": licences_of(policy, prompts, reward_model, demonstrations),
    }
    save_model(participants.policy, run.out, card)
    participants.close()
    return metrics


class OnlineTraining:
    """The loop, and what it carries from update to update."""

    def __init__(self, bound: Bound, participants: Participants, run: Run, total: int):
        self.bound, self.participants, self.run, self.total = bound, participants, run, total
        self.config, self.options = bound.config, bound.options
        self.kl_coef: float = self.options.kl_coef
        self.scale: ScoreScale | None = None
        self.history: list[dict[str, float | None]] = []
        self.rings: list[str] = []  # alarms whose condition held at the last update
        self.alarms: list[dict[str, Any]] = []  # those that were told, as their lines say it
        self.source = RolloutSource(
            participants.generator,
            participants.prompts,
            self.options,
            per_update=bound.prompts_per_update,
            seed=self.config.seed,
            total=total,
            run=run,
        )
        self.files = {name: KeptLines(run, name) for name in ("curves", "samples", "alarms")}

    def run_all(self) -> dict[str, float | None]:
        """All updates that are still to do."""
        states, good = (
            SavedStates(self.run.work, self.run.warn, self.run.note),
            SavedStates(self.run.work / GOOD, note=self.run.note),
        )
        start = self._resume(states)
        with closing(EventFiles(self.run)):
            return self._updates(start, states, good)

    def _updates(self, start: int, states: SavedStates, good: SavedStates) -> dict[str, float | None]:
        buffer = self.source.buffer
        stops, last = self.options.on_alarm == "stop", {}
        if stops and start == 0:
            good.save(0, {"policy": self.participants.engines["policy"]})
        for update in range(start, self.total):
            last = self._update(update, buffer)
            if stops and self.rings:
                return self._stop(update, good, last)
            if stops:
                good.save(update + 1, {"policy": self.participants.engines["policy"]})
            if update + 1 < self.total:
                states.save(update + 1, self.participants.engines, self._extra())
        return self._metrics(last, self.total)

    def _update(self, update: int, buffer: RolloutBuffer) -> dict[str, float]:
        rollouts = self.source.rollouts(update)
        scored = buffer.scored(update) or self._scored(update, rollouts, buffer)
        if self.scale is None:
            self.scale = score_scale(scored.scores, self.options.normalize_scores)
        experience = make_experience(scored, self.bound.estimator, self.options, self.kl_coef, self.scale)
        texts = scored.rollouts.texts(self.participants.policy.tokenizer)
        repetitions = as_column([repetition(text.split()) for text in texts])
        sums = sums_of_all(experience_sums(experience, repetitions, self.options))
        if not sums["objective/scores"][1]:
            raise TrainingError(
                f"none of {sums['episodes'][0]:.0f} answers has a score",
                where=f"align, update {update + 1}",
                do="the warnings above say what the reward did",
            )
        rates = self._rates(update)
        sums |= take_steps(self.participants.learner, experience, update, rates, f"align, update {update + 1}")
        self.participants.generator.sync(self.participants.policy.model)
        tokens = sum(len(row) for row in scored.rollouts.rows)
        self.run.count_tokens(tokens * self.options.num_ppo_epochs + int(scored.rollouts.lengths.sum()))
        figures = self._record(update, sums, rates, scored.rollouts.figures)
        self._show_samples(update, scored, texts)
        self._ring(update, alarm_figures(sums, f"objective/{HELDOUT}"))
        if self.options.adaptive_kl:
            self.kl_coef = adaptive_kl_coefficient(
                self.kl_coef,
                figures["objective/kl"],
                self.options.kl_target,
                int(sums["episodes"][0]),
                self.options.kl_horizon,
            )
        self.source.settle()
        return figures

    def _scored(self, update: int, rollouts: Rollouts, buffer: RolloutBuffer) -> Scored:
        participants, options = self.participants, self.options
        parts = self._parts(rollouts)
        own = answer_statistics(participants.policy, rollouts.rows, ("logps", "entropy"), options.temperature)
        scored = Scored(
            rollouts,
            own["logps"],
            participants.reference_logps(rollouts.rows, options.temperature),
            own["entropy"],
            participants.values(rollouts.rows),
            as_column(participants.rewards.combine(parts)),
            {name: as_column(scores) for name, scores in parts.items()},
        )
        buffer.keep_scored(update, scored)
        return scored

    def _parts(self, rollouts: Rollouts) -> dict[str, list[float | None]]:
        """Scores by source, and those of the judge that only watches."""
        texts = rollouts.texts(self.participants.policy.tokenizer)
        episodes = [
            Episode(self.participants.prompts.rows[prompt], text, ended)
            for prompt, text, ended in zip(rollouts.prompts.tolist(), texts, rollouts.ended.tolist(), strict=True)
        ]
        parts = self.participants.rewards.score(episodes)
        if self.participants.watcher is not None:
            parts[HELDOUT] = self.participants.watcher.score(episodes)
        return parts

    def _rates(self, update: int) -> Rates:
        warming = self.participants.learner.critic is not None and update < self.options.value_warmup_steps
        rate = None if warming else learning_rate(update, self.total, self.config)
        return Rates(rate, learning_rate(update, self.total, self.bound.value_config))

    def _record(
        self, update: int, sums: dict[str, tuple[float, float]], rates: Rates, sampling: Mapping[str, float]
    ) -> dict[str, float]:
        """The figures of an update; a point of the curves where one is due."""
        figures = {
            **point(sums),
            **sampling,
            "objective/kl_coef": self.kl_coef,
            "lr": rates.policy or 0.0,
            "value/lr": rates.value,
            "episode": (update + 1) * sums["episodes"][0],
        }
        del figures["episodes"]
        self.run.progress(update + 1, self.total, "updates", **rounded(figures))
        if (update + 1) % self.config.logging_steps == 0 or update + 1 in (1, self.total):
            self.files["curves"].write(update + 1, figures)
        return figures

    def _show_samples(self, update: int, scored: Scored, texts: list[str]) -> None:
        step = update + 1
        if not self.options.samples or not (step % self.options.samples_steps == 0 or step in (1, self.total)):
            return
        kl = (scored.logps - scored.ref_logps).split(scored.rollouts.lengths.tolist())
        for index in range(min(self.options.samples, len(texts))):
            row = self.participants.prompts.rows[int(scored.rollouts.prompts[index])]
            scores = {"score": scored.scores, **{f"scores/{name}": part for name, part in scored.parts.items()}}
            shown = {
                name: None if values[index].isnan() else round(float(values[index]), 4)
                for name, values in scores.items()
            }
            self.files["samples"].write(
                step,
                {
                    "prompt": row["prompt"],
                    "completion": texts[index],
                    "ended": bool(scored.rollouts.ended[index]),
                    "tokens": int(scored.rollouts.lengths[index]),
                    "kl": round(float(kl[index].sum()), 4),
                    **shown,
                },
            )

    def _ring(self, update: int, figures: dict[str, float | None]) -> None:
        """Take in an update's figures; an alarm is told when its condition becomes true, not while it stays so."""
        self.history.append(figures)
        found = ringing(self.history, self.options.alarms)
        for alarm in found:
            if alarm.name not in self.rings:
                self.run.warn(f"alarm {alarm.name} at update {update + 1}: {alarm.text}")
                content = {"alarm": alarm.name, "text": alarm.text, "figures": alarm.figures}
                self.alarms.append({"step": update + 1, **content})
                self.files["alarms"].write(update + 1, content)
        self.rings = [alarm.name for alarm in found]

    def _extra(self) -> dict[str, Any]:
        assert self.scale is not None
        return {
            "kl_coef": self.kl_coef,
            "scale": [self.scale.mean, self.scale.deviation],
            "history": self.history,
            "rings": self.rings,
            "alarms": self.alarms,
        }

    def _resume(self, states: SavedStates) -> int:
        """Take up the newest state; returns the updates that are done."""
        saved = states.restore(self.participants.engines)
        start = saved.step if saved else 0
        kept = {name: file.forget_after(start) for name, file in self.files.items()}
        if saved:
            extra = saved.extra
            self.kl_coef, self.history, self.rings = extra["kl_coef"], extra["history"], extra["rings"]
            self.scale = ScoreScale(*extra["scale"])
            self.alarms = extra.get(
                "alarms", kept["alarms"]
            )  # a state of an older alignflow has them in their lines alone
            for line in self.alarms:
                self.run.warn(f"alarm {line['alarm']} at update {line['step']}: {line['text']}")
            self.participants.generator.sync(self.participants.policy.model)
        return start

    def _stop(self, update: int, good: SavedStates, last: dict[str, float]) -> dict[str, float | None]:
        """End at an alarm, with the weights of the last update at which none rang."""
        saved = good.restore({"policy": self.participants.engines["policy"]})
        assert saved is not None
        self.run.warn(
            f"stopped at update {update + 1} by {', '.join(self.rings)}; published: the weights after update {saved.step}"
        )
        return self._metrics(last, saved.step) | {"stopped_at": float(update + 1)}

    def _metrics(self, last: dict[str, float], updates: int) -> dict[str, float | None]:
        return {**last, "updates": float(updates), "episodes": last["episode"], "alarms": float(len(self.alarms))}
