"""Win rates by a judge as a reward: against the other answers to the same prompt (SPO, arXiv 2401.04056), or against the row's reference answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from alignflow.data.configs.rewards import WinRateRewardOptions
from alignflow.data.errors import RecipeError
from alignflow.data.run import Run
from alignflow.models.evaluators.win_rate import judge_name
from alignflow.models.judges.base import IDENTICAL, Candidate, Verdict, judge_row, make_judge
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.reward_inputs import RewardInputs


class WinRateSource:
    """The score of an answer is the mean over its comparisons of P(it is better), between 0 and 1.

    The judge is asked about each pair of answers once, in both orders; P of the other is 1 - P. A comparison without a verdict is not
    counted, and an answer without any counted comparison has no score.
    """

    def __init__(self, options: WinRateRewardOptions, models: RewardInputs, run: Run):
        self.name = f"win_rate:{judge_name(options.judge)}"
        self._against, self._run, self._warned = options.against, run, False
        self._judge = make_judge(options.judge, policy=models.policy, reward_model=models.reward_model, run=run)
        self._silent: list[float | None] = []

    @staticmethod
    def check(options: WinRateRewardOptions) -> None:
        """Resolve the judge's name."""
        judge_row(options.judge.name, "align.options.rewards")

    def score(self, episodes: Sequence[Episode]) -> list[float | None]:
        """Win rates; the judge gets all comparisons in one call."""
        asked = group_pairs(episodes) if self._against == "group" else reference_pairs(episodes)
        candidates = [_candidate(episode) for episode in episodes]
        references = [
            Candidate(episode.row["prompt"], episode.row.get("reference") or "", True) for episode in episodes
        ]
        pairs = [
            (candidates[one], candidates[other] if self._against == "group" else references[one])
            for one, other in asked
        ]
        wins = [probability_of(verdict) for verdict in self._judge.compare(pairs)] if pairs else []
        if self._against == "reference":
            scores: list[float | None] = [None] * len(episodes)
            for (index, _), win in zip(asked, wins, strict=True):
                scores[index] = win
        else:
            scores = win_rates(dict(zip(asked, wins, strict=True)), len(episodes))
        self._say(episodes, asked, wins, scores)
        return scores

    def details(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """`no_verdict`: for each answer the share of its comparisons that the judge gave no verdict on; None without comparisons."""
        return {"no_verdict": self._silent}

    def close(self) -> None:
        """Free the judge's models."""
        self._judge.close()

    def _say(
        self,
        episodes: Sequence[Episode],
        asked: Sequence[tuple[int, int]],
        wins: Sequence[float | None],
        scores: Sequence[float | None],
    ) -> None:
        counts, lost = [0] * len(episodes), [0] * len(episodes)
        for pair, win in zip(asked, wins, strict=True):
            for index in {*pair}:
                counts[index] += 1
                lost[index] += win is None
        self._silent = [missed / count if count else None for missed, count in zip(lost, counts, strict=True)]
        if None in scores and not self._warned:
            self._warned = True
            why = (
                "no other answer to the prompt, or no verdict on any"
                if self._against == "group"
                else "no reference answer, or no verdict"
            )
            self._run.warn(
                f"{self.name}: {scores.count(None)} of {len(scores)} answers have no score ({why}), the first of row "
                f"{episodes[list(scores).index(None)].row['id']}; such answers are counted in objective/unscored"
            )


def check_group_size(options: Any, num_generations: int, where: str) -> None:
    """Raise RecipeError if answers are to be compared with others to the same prompt, and there are none."""
    if isinstance(options, WinRateRewardOptions) and options.against == "group" and num_generations < 2:
        raise RecipeError(
            "a win rate within the group needs several answers to a prompt",
            where=where,
            do="set align.options.num_generations to 2 or more, or set against to reference",
        )


def group_pairs(episodes: Sequence[Episode]) -> list[tuple[int, int]]:
    """All pairs of positions of answers of one group, each once."""
    members: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for index, episode in enumerate(episodes):
        members[episode.compared_with].append(index)
    return [pair for indices in members.values() for pair in combinations(indices, 2)]


def reference_pairs(episodes: Sequence[Episode]) -> list[tuple[int, int]]:
    """For each answer whose row has a reference, its position twice: the pair with its reference."""
    return [(index, index) for index, episode in enumerate(episodes) if episode.row.get("reference")]


def win_rates(wins: Mapping[tuple[int, int], float | None], count: int) -> list[float | None]:
    """For each of `count` answers the mean of P(it beats another) over its comparisons; None without any.

    Args:
        wins: (i, j) -> P(answer i beats answer j), each pair once; None if there is no verdict.
        count: Answers.
    """
    found: list[list[float]] = [[] for _ in range(count)]
    for (one, other), win in wins.items():
        if win is not None:
            found[one].append(win)
            found[other].append(1 - win)
    return [sum(values) / len(values) if values else None for values in found]


def probability_of(verdict: Verdict) -> float | None:
    """P(the first wins): one half for a verdict that changes with the order and for two equal answers, None for no verdict."""
    if verdict.reason == IDENTICAL or verdict.flips:
        return 0.5
    return verdict.probability


def _candidate(episode: Episode) -> Candidate:
    return Candidate(episode.row["prompt"], episode.text, episode.ended, episode.row.get("reference") or "")
