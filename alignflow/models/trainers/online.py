"""Trains on answers that the policy samples: an update is rollouts, scores, advantages and steps. No method's name is known here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.adapters import save_model
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.evaluators.text_statistics import repetition
from alignflow.models.rewards.shaping import ScoreScale, adaptive_kl_coefficient
from alignflow.models.rewards.sources import Episode
from alignflow.models.rollouts import Rollouts, answer_statistics
from alignflow.models.trainers.dynamic_sampling import Draws, Sampled, draws_of, missing, update_of
from alignflow.models.trainers.experience import (
    HELDOUT,
    Scored,
    as_column,
    experience_sums,
    make_experience,
    score_scale,
)
from alignflow.models.trainers.figures import alarm_figures, point, sums_of_all
from alignflow.models.trainers.fit import learning_rate
from alignflow.models.trainers.online_loop import OnlineLoop, Updated, check_updates, sample_line, shown_scores
from alignflow.models.trainers.participants import Bound, Participants, bind, load_participants, total_updates
from alignflow.models.trainers.rollout_source import RolloutSource
from alignflow.models.trainers.update import Rates, take_steps


def train_online(  # noqa: PLR0913 (each is an input of the stage)
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

    States are kept (`state_schedule.py`), and the answers of the update in progress after sampling and after scoring.
    curves.jsonl, samples.jsonl and alarms.jsonl are written to side/. Metrics: the last update's figures by TRL's
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
    check_updates(total)
    if bound.options.kl_in == "loss" and bound.options.kl_estimator == "k1" and bound.options.kl_coef:
        run.warn(
            "the KL penalty does not constrain the policy: as a loss k1 has a gradient with mean 0; use k2 or k3, or set kl_in to reward"
        )
    training = OnlineTraining(bound, participants, run, total)
    loop = OnlineLoop(training, participants.engines, bound.options, run, total, config)
    metrics = loop.run_all()
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
    """Updates by policy gradients, and their state; `OnlineLoop` runs them."""

    def __init__(self, bound: Bound, participants: Participants, run: Run, total: int):
        self.bound, self.participants, self.run, self.total = bound, participants, run, total
        self.config, self.options = bound.config, bound.options
        self.kl_coef: float = self.options.kl_coef
        self.scale: ScoreScale | None = None
        self.drawn = 0  # rounds of prompts taken from the stream
        self.unfilled = False  # whether there was a warning that dynamic sampling did not fill an update
        self.source = RolloutSource(
            participants.generator,
            participants.prompts,
            self.options,
            per_update=bound.prompts_per_update,
            seed=self.config.seed,
            total=total,
            run=run,
        )

    def update(self, number: int, show: bool) -> Updated:
        """Rollouts, scores, advantages and steps."""
        rollouts = self.source.rollouts(number, self.drawn)
        scored = self.source.buffer.scored(number) or self._scored(number, rollouts)
        if self.scale is None:
            self.scale = score_scale(scored.scores, self.options.normalize_scores)
        self._count_draws(number, scored.draws)
        experience = make_experience(scored, self.bound.estimator, self.options, self.kl_coef, self.scale)
        texts = scored.rollouts.texts(self.participants.policy.tokenizer)
        repetitions = as_column([repetition(text.split()) for text in texts])
        sums = sums_of_all(experience_sums(experience, repetitions, self.options))
        if not sums["objective/scores"][1]:
            raise TrainingError(
                f"none of {sums['episodes'][0]:.0f} answers has a score",
                where=f"align, update {number + 1}",
                do="see the warnings above about the reward",
            )
        rates = self._rates(number)
        sums |= take_steps(self.participants.learner, experience, number, rates, f"align, update {number + 1}")
        self.participants.generator.sync(self.participants.policy.model)
        tokens = sum(len(row) for row in scored.rollouts.rows)
        self.run.count_tokens(tokens * self.options.num_ppo_epochs + int(scored.rollouts.lengths.sum()))
        figures = {**self._figures(number, sums, rates), **scored.rollouts.figures}
        if self.options.adaptive_kl:
            self.kl_coef = adaptive_kl_coefficient(
                self.kl_coef,
                figures["objective/kl"],
                self.options.kl_target,
                int(sums["episodes"][0]),
                self.options.kl_horizon,
            )
        self.source.settle()
        watched = alarm_figures(sums, f"objective/{HELDOUT}")
        return Updated(figures, watched, self._samples(scored, texts) if show else [])

    def state(self) -> dict[str, Any]:
        """The KL controller, the scale of the scores, and the position in the stream of prompts."""
        assert self.scale is not None
        scale = [self.scale.mean, self.scale.deviation]
        return {"kl_coef": self.kl_coef, "scale": scale, "drawn": self.drawn, "unfilled": self.unfilled}

    def take_up(self, extra: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.kl_coef, self.scale = extra["kl_coef"], ScoreScale(*extra["scale"])
        # a state of an older alignflow has neither: it used one round for each update
        self.drawn, self.unfilled = extra.get("drawn", len(extra["history"])), extra.get("unfilled", False)
        self.participants.generator.sync(self.participants.policy.model)

    def finish(self) -> None:
        """Does nothing: an update without any score has been refused."""

    def _scored(self, update: int, first: Rollouts) -> Scored:
        participants, options = self.participants, self.options
        sampled, draws = self._sampled(first)
        rollouts = sampled.rollouts
        own = answer_statistics(participants.policy, rollouts.rows, ("logps", "entropy"), options.temperature)
        scored = Scored(
            rollouts,
            own["logps"],
            participants.reference_logps(rollouts.rows, options.temperature),
            own["entropy"],
            participants.values(rollouts.rows),
            sampled.scores,
            sampled.parts,
            draws,
        )
        self.source.buffer.keep_scored(update, scored)
        return scored

    def _sampled(self, first: Rollouts) -> tuple[Sampled, Draws]:
        """The answers of an update with their scores: one round of its prompts, or rounds until the scores of each prompt's answers differ.

        After a kill, rounds after the first are sampled again, from the same random numbers.
        """
        size, rounds = self.options.num_generations, list[Sampled]()
        for number in range(self.options.dynamic_sampling + 1):
            rollouts = self.source.more(self.drawn + number) if number else first
            parts = self._parts(rollouts)
            scores = as_column(self.participants.rewards.combine(parts))
            rounds.append(Sampled(rollouts, scores, {name: as_column(found) for name, found in parts.items()}))
            if not self.options.dynamic_sampling or not group.anywhere(missing(rounds, size) > 0):
                break
        if self.options.dynamic_sampling:
            return update_of(rounds, size)
        return rounds[0], draws_of([rounds[0].scores], size, 0)

    def _count_draws(self, update: int, draws: Draws | None) -> None:
        """Record how many rounds an update took; the first update that they did not fill gives a warning."""
        self.drawn += int(draws.rounds) if draws else 1
        if draws is None or self.unfilled or not group.anywhere(draws.unfilled > 0):
            return
        self.unfilled = True
        self.run.warn(
            f"update {update + 1}: {int(draws.rounds)} rounds of dynamic sampling did not fill the update; prompts whose answers have "
            "equal scores stay in it and give no gradient (dynamic_sampling/unfilled counts them in each update)"
        )

    def _parts(self, rollouts: Rollouts) -> dict[str, list[float | None]]:
        """Scores by source, and those of the held-out judge."""
        texts = rollouts.texts(self.participants.policy.tokenizer)
        episodes = [
            Episode(self.participants.prompts.rows[prompt], text, ended, tokens, place // self.options.num_generations)
            for place, (prompt, text, ended, tokens) in enumerate(
                zip(rollouts.prompts.tolist(), texts, rollouts.ended.tolist(), rollouts.lengths.tolist(), strict=True)
            )
        ]
        parts = self.participants.rewards.score(episodes)
        if self.participants.watcher is not None:
            parts[HELDOUT] = self.participants.watcher.score(episodes)
        return parts

    def _rates(self, update: int) -> Rates:
        warming = self.participants.learner.critic is not None and update < self.options.value_warmup_steps
        rate = None if warming else learning_rate(update, self.total, self.config)
        return Rates(rate, learning_rate(update, self.total, self.bound.value_config))

    def _figures(self, update: int, sums: dict[str, tuple[float, float]], rates: Rates) -> dict[str, float]:
        """The figures of an update."""
        figures = {
            **point(sums),
            "objective/kl_coef": self.kl_coef,
            "lr": rates.policy or 0.0,
            "value/lr": rates.value,
            "episode": (update + 1) * sums["episodes"][0],
        }
        del figures["episodes"]
        return figures

    def _samples(self, scored: Scored, texts: list[str]) -> list[dict[str, Any]]:
        """The first answers of the update, for samples.jsonl."""
        rollouts, rows = scored.rollouts, self.participants.prompts.rows
        kl = (scored.logps - scored.ref_logps).split(rollouts.lengths.tolist())
        scores = {"score": scored.scores, **{f"scores/{name}": part for name, part in scored.parts.items()}}
        return [
            sample_line(
                rows[int(rollouts.prompts[index])],
                texts[index],
                bool(rollouts.ended[index]),
                int(rollouts.lengths[index]),
                float(kl[index].sum()),
            )
            | shown_scores(scores, index)
            for index in range(min(self.options.samples, len(texts)))
        ]
