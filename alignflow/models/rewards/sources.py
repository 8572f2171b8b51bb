"""Sources of scores: reward models, a pointwise judge, a user's function; other sources are in other modules.

A missing score is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from alignflow.data import catalogue, own_module
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.rewards import (
    FunctionRewardOptions,
    JudgeRewardOptions,
    RewardModelRewardOptions,
    RewardSourceConfig,
)
from alignflow.data.errors import RecipeError
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.data.run import Run
from alignflow.models.evaluators.win_rate import judge_name
from alignflow.models.judges.base import Candidate, judge_row, make_judge
from alignflow.models.judges.reward_model import RewardModelJudge
from alignflow.models.reward_ensemble import disagreement_of, load_scorer
from alignflow.models.reward_model import ScoredRow
from alignflow.models.rewards.combining import combined
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.reward_inputs import RewardInputs


class RewardSource(Protocol):
    """Gives scores. Constructed as `Class(options, models, run)`, which may load a model; `check` is called before that.

    Attributes:
        name: Its name in logs.
    """

    name: str

    @staticmethod
    def check(options: Any) -> None:
        """Resolve the names in the options, without loading a model; raises RecipeError."""

    def score(self, episodes: Sequence[Episode]) -> list[float | None]:
        """One score per answer; None if there is none."""

    def details(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """Figures of each answer by name, which are logged and do not change the reward; None if an answer has none.

        Called right after `score` for the same answers; the names are always the same.
        """

    def close(self) -> None:
        """Free models."""


class RewardModelSource:
    """A reward model, or an ensemble. It reads text and uses its own template and tokenizer, not the policy's."""

    def __init__(self, options: RewardModelRewardOptions, models: RewardInputs, run: Run):
        path = Path(options.model) if options.model is not None else models.reward_model
        if path is None:
            raise RecipeError(
                "the recipe has no reward model",
                where="align.options.rewards",
                do="set reward or replace.reward, or set the option model of the source",
            )
        self.name = f"reward_model:{Path(options.model).name}" if options.model is not None else "reward_model"
        self._model: Any = load_scorer(path, run.runtime)

    @staticmethod
    def check(options: RewardModelRewardOptions) -> None:
        """No names to resolve."""

    def score(self, episodes: Sequence[Episode]) -> list[float | None]:
        """Rewards of the texts; one that is not finite is None."""
        return [finite(score) for score in self._model.score(_rows(episodes))]

    def details(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """For an ensemble, the standard deviation of each answer's scores over its members."""
        found = disagreement_of(self._model, _rows(episodes))
        return {} if found is None else {DISAGREEMENT: [finite(value) for value in found]}

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None


class JudgeSource:
    """A judge that scores single answers: a rubric, or a language model's grades (direct RLAIF, arXiv 2309.00267, section 2.2.2).

    A judge that asks a language model uses the one that the training starts from if its options name none.
    """

    def __init__(self, options: JudgeRewardOptions, models: RewardInputs, run: Run):
        self.name = judge_name(options.judge)
        self._judge = make_judge(options.judge, policy=models.policy, reward_model=models.reward_model, run=run)

    @staticmethod
    def check(options: JudgeRewardOptions) -> None:
        """Refuse a judge that only compares pairs."""
        check_pointwise(options.judge, "align.options.rewards")

    def score(self, episodes: Sequence[Episode]) -> list[float | None]:
        """The judge's scores."""
        return [finite(score) for score in self._judge.score(_candidates(episodes))]

    def details(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """Disagreement of the members, if the judge is an ensemble of reward models."""
        if not isinstance(self._judge, RewardModelJudge) or not self._judge.is_ensemble:
            return {}
        return {DISAGREEMENT: [detail.get(DISAGREEMENT) for detail in self._judge.details(_candidates(episodes))]}

    def close(self) -> None:
        """Free the judge's models."""
        self._judge.close()


class FunctionSource:
    """`function(prompt, completion, row) -> float`: messages of the prompt, text of the answer, row of the prompts table.

    A call that raises, or returns no finite number, is a failure: the score is None, never 0, and the first one gives a warning.
    """

    def __init__(self, options: FunctionRewardOptions, models: RewardInputs, run: Run):
        self.name = own_module.short(options.function)
        self._function, self._run, self._warned = bind_function(options.function), run, False

    @staticmethod
    def check(options: FunctionRewardOptions) -> None:
        """Import the function."""
        bind_function(options.function)

    def score(self, episodes: Sequence[Episode]) -> list[float | None]:
        """What the function returns."""
        return [self._call(episode) for episode in episodes]

    def details(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """None: a function returns only a number."""
        return {}

    def _call(self, episode: Episode) -> float | None:
        try:
            value = self._function(episode.row["prompt"], episode.text, episode.row)
            score, reason = finite(value), f"returned {value!r:.80}"
        except Exception as error:  # noqa: BLE001 (the user's code may raise anything; it is counted, with one warning)
            score, reason = None, f"raised {type(error).__name__}: {str(error)[:120]}"
        if score is None and not self._warned:
            self._warned = True
            self._run.warn(
                f"the reward {self.name} {reason} (row {episode.row['id']}); such answers have no score and are counted"
            )
        return score

    def close(self) -> None:
        """Nothing to free."""


def _rows(episodes: Sequence[Episode]) -> list[ScoredRow]:
    return [(episode.row["prompt"], episode.text, episode.ended) for episode in episodes]


def _candidates(episodes: Sequence[Episode]) -> list[Candidate]:
    return [
        Candidate(episode.row["prompt"], episode.text, episode.ended, episode.row.get("reference") or "")
        for episode in episodes
    ]


def finite(value: Any) -> float | None:
    """The value as a finite float; None if it is not one."""
    if not hasattr(value, "__float__"):  # a text such as "1.0" is not a number
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def bind_function(name: str) -> Callable[..., Any]:
    """The function that `file.py:function` or `package.module:function` names; raises RecipeError if there is none."""
    function = own_module.load(name)
    if not callable(function):
        raise RecipeError(
            f"{own_module.short(name)} is not a function",
            where="align.options.rewards",
            do="use a function(prompt, completion, row)",
        )
    return function


def check_pointwise(judge: JudgeConfig, where: str) -> None:
    """Raise RecipeError for a judge without scores."""
    row = judge_row(judge.name, where)
    if not row.resolve().pointwise:  # type: ignore[attr-defined]
        raise RecipeError(
            f"the judge {judge.name!r} compares pairs and has no scores",
            where=where,
            do="use a pointwise one, such as rubric",
        )


@dataclass(frozen=True)
class BoundSource:
    """A source whose names are resolved and whose models are not loaded yet."""

    weight: float
    options: Any
    kind: Callable[[Any, RewardInputs, Run], RewardSource]


def bind_sources(configs: Sequence[RewardSourceConfig]) -> list[BoundSource]:
    """Look up, validate and import what the sources name; raises RecipeError."""
    bound = []
    for index, config in enumerate(configs):
        row = catalogue.look_up(catalogue.REWARDS, config.name, f"align.options.rewards.{index}.name")
        options = catalogue.parse_options(row, config.options, f"align.options.rewards.{index}.options")
        kind: Any = row.resolve()
        kind.check(options)
        bound.append(BoundSource(config.weight, options, kind))
    return bound


class WeightedRewards:
    """Several sources; the score of an answer is their weighted sum, and None if one of them gave none.

    Args:
        bound: The sources.
        reward_model: The recipe's reward model, or None.
        run: Device and warnings.
        policy: The model that the training starts from.
        normalize: `group`: each source is normalised separately, within the answers to one prompt, before it is weighted; `off`.
    """

    def __init__(
        self,
        bound: Sequence[BoundSource],
        reward_model: Path | None,
        run: Run,
        policy: Path | None = None,
        normalize: str = "off",
    ):
        models = RewardInputs(reward_model, policy)
        self._stack = ExitStack()
        self._sources = [
            self._stack.enter_context(closing(source.kind(source.options, models, run))) for source in bound
        ]
        self._weights, self._normalize = [source.weight for source in bound], normalize
        self._groups: list[tuple[str, int | None]] = []  # groups of the answers that were scored last
        names = [source.name for source in self._sources]
        self.names = [name if names.index(name) == index else f"{name}#{index}" for index, name in enumerate(names)]

    def score(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """Source -> its scores, unweighted, in the order of the sources; after each its details as NAME/DETAIL, which are logged and
        do not change the reward."""
        found: dict[str, list[float | None]] = {}
        self._groups = [episode.compared_with for episode in episodes]
        for name, source in zip(self.names, self._sources, strict=True):
            found[name] = source.score(episodes)
            found |= {f"{name}/{detail}": values for detail, values in source.details(episodes).items()}
        return found

    def combine(self, scores: Mapping[str, Sequence[float | None]]) -> list[float | None]:
        """The weighted sums of the last scores of `score`."""
        columns = [scores[name] for name in self.names]
        return combined(columns, self._weights, self._groups if self._normalize == "group" else None)

    def close(self) -> None:
        """Free all models."""
        self._stack.close()
