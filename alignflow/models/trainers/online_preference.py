"""Trains on comparisons of answers that the policy samples: an update is answers, verdicts and one step. No method's name is known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.catalogue.online_preference_methods import ComparingMethod
from alignflow.data.configs.online_preference import ComparedOptions, NashOptions, PairedOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.data.run import Run
from alignflow.data.update_choices import check_importance
from alignflow.models.adapters import save_model
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.engines.base import Kept
from alignflow.models.evaluators.text_statistics import repetition
from alignflow.models.evaluators.win_rate import judge_name
from alignflow.models.generation.base import row_seed
from alignflow.models.judges.base import judge_row, make_judge
from alignflow.models.judges.comparing import Comparer, JudgeComparer, ScoreComparer, compared
from alignflow.models.losses.online_preference import PairLoss
from alignflow.models.rewards.sources import BoundSource, WeightedRewards, bind_sources
from alignflow.models.rollouts import Rollouts, answer_statistics, prompt_order, sample_rollouts
from alignflow.models.trainers.compared_answers import ComparedAnswers, duels, joined, ordered_pairs, planned
from alignflow.models.trainers.experience import HELDOUT, as_column
from alignflow.models.trainers.figures import alarm_figures, point, sums_of_all
from alignflow.models.trainers.fit import learning_rate
from alignflow.models.trainers.live_models import (
    LiveModels,
    as_rollout_options,
    check_live,
    live_updates,
    load_live,
)
from alignflow.models.trainers.online_loop import OnlineLoop, Updated, check_updates, sample_line, shown_scores
from alignflow.models.trainers.opponents import Opponent, Players, make_opponent
from alignflow.models.trainers.preference_buffer import PreferenceBuffer
from alignflow.models.trainers.preference_figures import comparison_sums
from alignflow.models.trainers.preference_update import PreferenceLearner, preference_step


@dataclass(frozen=True)
class BoundPreference:
    """A config with all names resolved; nothing is loaded.

    Attributes:
        config: The stage's config.
        method: Its row of the catalogue.
        options: The method's options.
        loss: The method's loss with its options, and the pair loss if it has one.
        sources: Rewards; empty if a judge compares.
    """

    config: AlignConfig
    method: ComparingMethod
    options: ComparedOptions
    loss: Callable[[Any], Any]
    sources: list[BoundSource]

    @property
    def generations(self) -> int:
        """Answers of the policy per prompt."""
        return int(getattr(self.options, "num_generations", 1))


def train_online_preference(
    config: AlignConfig,
    *,
    policy: Path,
    reference: Path | None,
    prompts: Path,
    reward_model: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Align the checkpoint `policy` on comparisons of answers that it samples for `prompts`/train.parquet.

    States are kept (`state_schedule.py`), and the answers of the update in progress after sampling and after the comparison.
    Side files are curves.jsonl, samples.jsonl and alarms.jsonl. Metrics: the last update's figures by TRL's names,
    `updates`, `episodes` (answers of the policy), `updates/skipped` and `alarms`.

    Raises:
        RecipeError: a name or a combination of options is wrong; nothing was loaded.
        TrainingError: zero updates, no prompts, no pair in any update, or a loss that is not finite.
    """
    bound = bind(config)
    models = load_live(
        config,
        bound.options,
        run,
        policy=policy,
        reference=reference or policy,
        prompts=prompts,
        reward_model=reward_model,
    )
    total = live_updates(config, bound.options, len(models.prompts))
    check_updates(total)
    comparer = models.stack.enter_context(closing(make_comparer(bound, policy, reward_model, run)))
    opponent = make_opponent(
        bound.method.opponent, Players(models.policy, models.reference, bound.options, run.runtime)
    )
    training = PreferenceTraining(bound, models, comparer, opponent, run, total)
    kept: dict[str, Kept] = {"policy": models.engine, **(opponent.states if opponent else {})}
    loop = OnlineLoop(training, kept, bound.options, run, total, config)
    metrics = loop.run_all() | {"updates/skipped": float(training.skipped)}
    card = {
        f"Aligned by {config.method}": f"Aligned by alignflow ({bound.method.summary} arXiv {bound.method.paper}).",
        "updates": str(int(metrics["updates"] or 0)),
        "compared by": ", ".join(comparer.names),
        "licences of what went in": licences_of(policy, prompts, reward_model),
    }
    save_model(models.policy, run.out, card)
    models.stack.close()
    return metrics


def bind(config: AlignConfig) -> BoundPreference:
    """Look up and import everything that the config names; raises RecipeError for a wrong name or combination."""
    method = catalogue.look_up(catalogue.METHODS, config.method, "align.method")
    assert isinstance(method, ComparingMethod)
    options: ComparedOptions = catalogue.parse_options(method, config.options, "align.options")
    check_live(config, options)
    if options.judge is not None:
        judge_row(options.judge.name, "align.options.judge.name")
    if isinstance(options, NashOptions):
        check_importance(options, "align.options")
    loss: Callable[..., Any] = partial(method.resolve(), options=options)
    if isinstance(options, PairedOptions):
        loss = partial(loss, pair_loss=bound_pair_loss(options))
    return BoundPreference(config, method, options, loss, bind_sources(options.rewards))


def bound_pair_loss(options: PairedOptions) -> PairLoss:
    """The loss that `pair_loss` names, with the method's beta and its options; raises RecipeError for one that needs more than pairs."""
    where = "align.options.pair_loss"
    row = catalogue.look_up(catalogue.METHODS, options.pair_loss, where)
    fields = row.options.model_fields
    plain = row.family == "pairs" and row.needs == ("logps",) and row.needs_reference and "beta" in fields
    if not plain or row.whole_step or row.reference_tokens or row.live_reference or row.teacher or "stages" in fields:
        raise RecipeError(
            f"{options.pair_loss!r} is not a loss of single pairs with a reference and a beta",
            where=where,
            do="set it to dpo, ipo, exo, apo_zero or another one that needs only log-probabilities",
        )
    own = {"beta": options.beta}
    if options.soft_labels:
        if "use_soft_labels" not in fields:
            raise RecipeError(
                f"{options.pair_loss!r} has no soft labels",
                where="align.options.soft_labels",
                do="set pair_loss to dpo",
            )
        own["use_soft_labels"] = True
    given = {**options.pair_loss_options, **own}
    return partial(row.resolve(), options=catalogue.parse_options(row, given, "align.options.pair_loss_options"))


def make_comparer(bound: BoundPreference, policy: Path, reward_model: Path | None, run: Run) -> Comparer:
    """The judge, or the rewards; a language model that they need and do not name is the one that training starts from."""
    judge = bound.options.judge
    if judge is None:
        return ScoreComparer(WeightedRewards(bound.sources, reward_model, run, policy))
    return JudgeComparer(make_judge(judge, policy=policy, reward_model=reward_model, run=run), judge_name(judge))


class PreferenceTraining:
    """Updates on comparisons, and their state; `OnlineLoop` runs them."""

    def __init__(
        self,
        bound: BoundPreference,
        models: LiveModels,
        comparer: Comparer,
        opponent: Opponent | None,
        run: Run,
        total: int,
    ):
        self.bound, self.models, self.comparer, self.opponent, self.run = bound, models, comparer, opponent, run
        self.total, self.skipped, self.stepped = total, 0, 0
        self.config, self.options = bound.config, bound.options
        self.buffer = PreferenceBuffer(run)
        self.learner = PreferenceLearner(
            models.policy,
            models.engine,
            bound.loss,
            bound.method.ordered,
            bool(getattr(bound.options, "soft_labels", False)),
            bound.options.temperature,
            bound.options if isinstance(bound.options, NashOptions) else None,
        )

    def update(self, number: int, show: bool) -> Updated:
        """Answers, verdicts and one step; no step, and a warning, if there is no pair to train on."""
        answers = self.buffer.compared(number) or self._compared(number)
        texts = answers.rollouts.texts(self.models.policy.tokenizer)
        repetitions = [repetition(text.split()) for text in texts[: answers.own]]
        sums = sums_of_all(comparison_sums(answers, repetitions, self.options.beta, self.bound.method.ordered))
        rate = learning_rate(number, self.total, self.config)
        stepped = preference_step(self.learner, answers, rate, f"align, update {number + 1}")
        if stepped:
            self.stepped += 1
            self.models.generator.sync(self.models.policy.model)
            if self.opponent is not None:
                self.opponent.follow(self.models.policy)
        else:
            self.skipped += 1
            self.run.warn(f"update {number + 1}: none of its comparisons prefers an answer, so no step was taken")
        rows = answers.rollouts.rows
        trained = [row for unit in answers.kept for row in answers.pairs[unit].tolist()[: 1 + self.learner.ordered]]
        self.run.count_tokens(sum(len(rows[row]) for row in trained) + int(answers.rollouts.lengths.sum()))
        watched = alarm_figures(sums, f"objective/{HELDOUT}")
        if watched["scores"] is None:
            watched |= {"heldout": None}  # without a score, none can rise while the judge falls
        figures = {**point(sums | stepped), **answers.rollouts.figures} | {
            "beta": self.options.beta,
            "lr": rate if stepped else 0.0,
            "episode": (number + 1) * sums["episodes"][0],
        }
        del figures["episodes"]
        return Updated(figures, watched, self._samples(answers, texts) if show else [])

    def state(self) -> dict[str, Any]:
        """How many updates took a step, and how many were skipped."""
        return {"stepped": self.stepped, "skipped": self.skipped}

    def take_up(self, extra: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.stepped, self.skipped = extra["stepped"], extra["skipped"]
        self.models.generator.sync(self.models.policy.model)

    def finish(self) -> None:
        """Refuse a training in which nothing was preferred; raises TrainingError."""
        if not self.stepped:
            raise TrainingError(
                f"none of {self.total} updates had a comparison that prefers an answer",
                where="align",
                do="see pairs/ in the curves for the reasons; try another judge or reward, a larger response_length, or a higher "
                "temperature",
            )

    def _compared(self, update: int) -> ComparedAnswers:
        found = self.buffer.sampled(update)
        if found is None:
            found = self._sampled(update)
            self.buffer.keep_sampled(update, *found)
        rollouts, own = found
        temperature, generations = self.options.temperature, self.bound.generations
        episodes = self.models.episodes(rollouts)
        pairs = planned(own, len(rollouts.rows), generations)
        comparison = compared(self.comparer, episodes, pairs, self.options.missing_eos_penalty)
        texts = [episode.text for episode in episodes]
        per_prompt = len(pairs) * generations // own
        settled = (
            ordered_pairs(comparison, pairs, texts, per_prompt) if self.learner.ordered else duels(comparison, pairs)
        )
        scores = {name: as_column(values) for name, values in comparison.scores.items()}
        if self.models.watcher is not None:
            watched = self.models.watcher.score(episodes[:own])
            scores[HELDOUT] = as_column([*watched, *([None] * (len(episodes) - own))])
        statistics = answer_statistics(self.models.policy, rollouts.rows, ("logps", "entropy"), temperature)
        ref_logps = self.models.reference_logps(rollouts.rows, temperature)
        answers = ComparedAnswers(
            rollouts, own, statistics["logps"], ref_logps, statistics["entropy"], *settled, scores
        )
        self.buffer.keep_compared(update, answers)
        return answers

    def _sampled(self, update: int) -> tuple[Rollouts, int]:
        """The answers to this process's shard of the update's prompts: the policy's, then the opponent's."""
        prompts, seed = self.models.prompts, self.config.seed
        share = group.share(prompt_order(len(prompts), update, self.config.batch_size, seed))
        options = as_rollout_options(self.options, self.bound.generations)
        own = sample_rollouts(self.models.generator, prompts, share, update, options, seed)
        other = None
        if self.opponent is not None:
            theirs = row_seed(seed, "opponent", 0)
            with self.opponent.session():
                other = sample_rollouts(self.opponent, prompts, share, update, options, theirs)  # type: ignore[arg-type]
        return joined(own, other), len(own.rows)

    def _samples(self, answers: ComparedAnswers, texts: list[str]) -> list[dict[str, Any]]:
        """The first comparisons of the update, for samples.jsonl: the better (or the policy's) answer and the other one."""
        rollouts, rows = answers.rollouts, self.models.prompts.rows
        kl = (answers.logps - answers.ref_logps).split(rollouts.lengths.tolist())
        lines: list[dict[str, Any]] = []
        for first, second in answers.pairs[: self.options.samples].tolist():
            place = len(lines)
            line = sample_line(
                rows[int(rollouts.prompts[first])],
                texts[first],
                bool(rollouts.ended[first]),
                int(rollouts.lengths[first]),
                float(kl[first].sum()),
            )
            probability = answers.log_odds[place : place + 1].sigmoid()
            met = {"against": texts[second], "taught": bool(answers.reason[place] == 0)}
            lines.append(
                {"score": None}
                | line
                | met
                | shown_scores({"probability": probability}, 0)
                | shown_scores(answers.scores, first)
            )
        return lines
