"""The families of methods: what data a family learns from, how it is read, and what runs its methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part


@dataclass(frozen=True)
class Feed(Part):
    """A kind of table that can feed a family: the address is that of its reader, the summary says what its columns become.

    Attributes:
        kind: Name of the table, and of the input of `align`.
    """

    kind: str = ""


@dataclass(frozen=True)
class Family(Part):
    """Methods that learn from one kind of data: the address is that of the stage's trainer.

    Attributes:
        columns: Columns of the data.
        feeds: Tables that can feed it, the most direct first; empty: its methods sample their own answers.
        takes: Names of further inputs of `align`; a trailing `?` marks one that the method or its options decide about.
        paired: Whether a loss gets pairs of a chosen and a rejected answer.
        answers: Answers of a row, for what a step needs of memory.
        headline: Metrics that a report shows first.
        generates: Whether it runs a generator, whose name then enters the key.
        unread: Fields of `align` that it has no use for: a recipe that sets one is refused. Where `eval_loss` is the one metric that can
            say which step is the best, `metric_for_best_model` is among them.
    """

    columns: tuple[str, ...] = ()
    feeds: tuple[Feed, ...] = ()
    takes: tuple[str, ...] = ("policy", "reference?")
    paired: bool = False
    answers: int = 1
    headline: tuple[str, ...] = ("loss",)
    generates: bool = False
    unread: tuple[str, ...] = ()

    def feed(self, kind: str) -> Feed:
        """The feed of a kind of table; raises KeyError where it cannot feed the family."""
        return {feed.kind: feed for feed in self.feeds}[kind]


_UNREAD_WHERE_IT_SAMPLES = (
    "sft_coefficient",
    "max_logps_drop",
    "eval_steps",
    "load_best_model_at_end",
    "early_stopping_patience",
    "metric_for_best_model",
)

FAMILIES: Mapping[str, Family] = {
    "pairs": Family(
        "alignflow.models.trainers.offline:train_offline",
        "Pairs of a better and a worse answer.",
        columns=("prompt", "chosen", "rejected"),
        paired=True,
        answers=2,
        headline=("rewards/accuracies", "rewards/margins"),
        feeds=(Feed("alignflow.models.trainers.offline_rows:read_paired", "", kind="preferences"),),
    ),
    "best_and_worst": Family(
        "alignflow.models.trainers.offline:train_offline",
        "The best and the worst answer of a prompt, with their win rates.",
        columns=("prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
        paired=True,
        answers=2,
        headline=("rewards/accuracies", "rewards/margins"),
        feeds=(
            Feed("alignflow.models.trainers.win_rate_rows:read_best_and_worst", "", kind="win_rates"),
            Feed(
                "alignflow.models.trainers.win_rate_rows:read_pairs_of_two",
                "each pair is the best and the worst of two answers, with the win rates (1/2 + p) / 2 and its rest to 1, p the soft label or 1",
                kind="preferences",
            ),
        ),
    ),
    "unpaired": Family(
        "alignflow.models.trainers.offline:train_offline",
        "Single answers with a good or bad label.",
        columns=("prompt", "completion", "label"),
        headline=("rewards/chosen", "rewards/rejected"),
        unread=("sft_coefficient", "metric_for_best_model"),
        feeds=(
            Feed("alignflow.models.trainers.offline_rows:read_unpaired", "", kind="unpaired"),
            Feed(
                "alignflow.models.trainers.offline_rows:read_halves",
                "each pair becomes two rows: chosen with the label true, rejected with false",
                kind="preferences",
            ),
        ),
    ),
    "lists": Family(
        "alignflow.models.trainers.offline:train_offline",
        "Lists of answers with scores.",
        columns=("prompt", "completions", "scores"),
        version="2",
        answers=4,
        headline=("rewards/accuracies", "rewards/margins"),
        unread=("sft_coefficient",),
        feeds=(
            Feed("alignflow.models.trainers.offline_rows:read_rankings", "", kind="rankings"),
            Feed(
                "alignflow.models.trainers.offline_rows:read_two_of_list",
                "each pair becomes a list of two with the scores 1 and 0",
                kind="preferences",
            ),
        ),
    ),
    "scored": Family(
        "alignflow.models.trainers.offline:train_offline",
        "Single answers with a score.",
        columns=("prompt", "completions", "scores"),
        headline=("rewards", "values"),
        unread=("sft_coefficient", "metric_for_best_model"),
        feeds=(
            Feed(
                "alignflow.models.trainers.offline_rows:read_scored",
                "each answer of a list becomes a row of its own",
                kind="rankings",
            ),
        ),
    ),
    "negatives": Family(
        "alignflow.models.trainers.offline:train_offline",
        "A negative answer against samples of the model itself.",
        columns=("prompt", "completions", "scores"),
        answers=4,
        headline=("rewards/accuracies", "logps/rejected"),
        unread=("sft_coefficient",),
        feeds=(
            Feed(
                "alignflow.models.trainers.negative_rows:read_lowest_as_negative",
                "the answer with the lowest score of a list is the negative one, the others are the samples",
                kind="rankings",
            ),
            Feed(
                "alignflow.models.trainers.negative_rows:read_rejected_as_negative",
                "the rejected answer is the negative one, the chosen one the only sample",
                kind="preferences",
            ),
        ),
    ),
    "demonstrations": Family(
        "alignflow.models.trainers.offline:train_offline",
        "Conversations to imitate, with what a teacher says of each of their tokens.",
        columns=("messages",),
        headline=("divergence",),
        unread=("sft_coefficient", "metric_for_best_model"),
        feeds=(Feed("alignflow.models.trainers.offline_rows:read_demonstrations", "", kind="demonstrations"),),
    ),
    "online_preference": Family(
        "alignflow.models.trainers.online_preference:train_online_preference",
        "Samples answers, has them compared, and steps on the comparisons.",
        version="2",
        columns=("prompt",),
        takes=("policy", "reference", "prompts", "reward_model?"),
        answers=2,
        generates=True,
        headline=("rewards/accuracies", "objective/scores_margin", "objective/kl", "pairs/kept", "alarms"),
        unread=_UNREAD_WHERE_IT_SAMPLES,
    ),
    "online_distillation": Family(
        "alignflow.models.trainers.online_distillation:train_online_distillation",
        "Samples answers, and steps on what a teacher says of each of their tokens.",
        columns=("prompt",),
        takes=("policy", "prompts"),
        generates=True,
        headline=("divergence", "completions/mean_length", "alarms"),
        unread=_UNREAD_WHERE_IT_SAMPLES,
    ),
    "selected": Family(
        "alignflow.models.trainers.offline:train_offline",
        "Conversations to imitate, chosen among the policy's own answers.",
        columns=("messages",),
        headline=("nll_loss",),
        unread=("sft_coefficient", "metric_for_best_model"),
        feeds=(Feed("alignflow.models.trainers.offline_rows:read_demonstrations", "", kind="demonstrations"),),
    ),
    "online": Family(
        "alignflow.models.trainers.online:train_online",
        "Samples answers, scores them, and steps on them.",
        version="2",
        columns=("prompt",),
        takes=("policy", "reference", "prompts", "reward_model?", "demonstrations?"),
        generates=True,
        headline=("objective/rlhf_reward", "objective/kl", "completions/mean_length", "alarms"),
        unread=_UNREAD_WHERE_IT_SAMPLES,
    ),
}
