"""The loaded models of methods with one step per update: the policy with its engine, a frozen reference, prompts, a held-out judge."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.online_preference import LiveOptions
from alignflow.data.configs.rewards import JudgeRewardOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.configs.watched import WatchedOptions
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.data.records import read_table
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine, make_engine
from alignflow.models.generation.live import LiveSampler
from alignflow.models.policy import Policy, load_frozen, load_learner
from alignflow.models.rewards.sources import Episode, JudgeSource, RewardInputs
from alignflow.models.rollouts import Prompts, Rollouts, answer_statistics, encode_prompts
from alignflow.models.trainers.room import context_of, room


@dataclass
class LiveModels:
    """The loaded models and data.

    Attributes:
        policy: The model that is aligned.
        engine: Its engine.
        reference: The frozen model; None: the policy with its adapter off, or a method without a reference.
        generator: Samples from the policy itself, with the engine of the config.
        watcher: The held-out judge; None without one.
        prompts: The prompts to sample answers for.
        stack: Closes everything else that is loaded.
    """

    policy: Policy
    engine: Engine
    reference: Policy | None
    generator: LiveSampler
    watcher: JudgeSource | None
    prompts: Prompts
    stack: ExitStack

    def reference_logps(self, rows: list[EncodedRow], temperature: float) -> torch.Tensor:
        """(N,) fp32 log-probabilities of the answers' tokens by the reference."""
        return reference_logps(self.policy, self.reference, rows, temperature)

    def episodes(self, rollouts: Rollouts) -> list[Episode]:
        """The answers in the form for judges and rewards."""
        texts = rollouts.texts(self.policy.tokenizer)
        return [
            Episode(self.prompts.rows[prompt], text, ended, tokens)
            for prompt, text, ended, tokens in zip(
                rollouts.prompts.tolist(), texts, rollouts.ended.tolist(), rollouts.lengths.tolist(), strict=True
            )
        ]


def reference_logps(
    policy: Policy, reference: Policy | None, rows: list[EncodedRow], temperature: float
) -> torch.Tensor:
    """(N,) fp32 log-probabilities of the answers' tokens by the frozen reference, or, if it is None, by the policy with its adapter off."""
    if reference is not None:
        return answer_statistics(reference, rows, ("logps",), temperature)["logps"]
    assert policy.adapter is not None
    with policy.adapter.off():
        return answer_statistics(policy, rows, ("logps",), temperature)["logps"]


def check_live(config: AlignConfig, options: WatchedOptions) -> None:
    """Refuse settings that no method that samples while it trains supports; raises RecipeError."""
    if config.max_length <= options.response_length:
        raise RecipeError(
            f"{options.response_length} tokens leave no room for a prompt in align.max_length {config.max_length}",
            where="align.options.response_length",
            do="raise align.max_length",
        )
    if config.lora is not None and config.lora.lora_dropout:
        raise RecipeError(
            "with dropout the trained policy differs from the one that samples",
            where="align.lora.lora_dropout",
            do="set it to 0",
        )
    if options.heldout_judge is not None:
        JudgeSource.check(JudgeRewardOptions(judge=options.heldout_judge))


def load_live(  # noqa: PLR0913 (each is an input of the stage)
    config: AlignConfig,
    options: LiveOptions,
    run: Run,
    *,
    policy: Path,
    reference: Path | None,
    prompts: Path,
    reward_model: Path | None = None,
) -> LiveModels:
    """Load policy, prompts, watcher, and the reference if a path is given.

    Raises:
        ModelError, RecipeError, TrainingError: for inputs that cannot be used.
    """
    runtime = run.runtime
    group.join(runtime)
    if config.batch_size < group.size():
        raise RecipeError(
            f"{config.batch_size} prompts per update are too few for {group.size()} processes",
            where="align.batch_size",
            do="set it to a larger value, or engine.processes to a smaller one",
        )
    stack = ExitStack()
    model = load_learner(policy, config, runtime, in_parts=True)
    own_reference = reference is None or (model.adapter is not None and reference == policy)
    engine = stack.enter_context(closing(make_engine(model.model, config, runtime)))
    longest, _ = room(config.max_length, context_of(model.model), "align.max_length")
    asked = encode_prompts(
        read_table(prompts / "train.parquet"), model.tokenizer, longest - options.response_length, run
    )
    heldout, watcher = options.heldout_judge, None
    if heldout is not None:
        source = JudgeSource(JudgeRewardOptions(judge=heldout), RewardInputs(reward_model, policy), run)
        watcher = stack.enter_context(closing(source))
    return LiveModels(
        model,
        engine,
        None if own_reference or reference is None else load_frozen(reference, runtime, in_parts=True),
        stack.enter_context(closing(LiveSampler(model, policy, options.generator, longest))),
        watcher,
        asked,
        stack,
    )


def live_updates(config: AlignConfig, options: LiveOptions, prompts: int) -> int:
    """Updates of a run: `max_steps`, or `total_episodes`, or as many as the epochs over the prompts have."""
    if config.max_steps >= 0:
        return config.max_steps
    return math.ceil((options.total_episodes or prompts * config.num_train_epochs) / config.batch_size - 1e-9)


def as_rollout_options(options: LiveOptions, num_generations: int) -> OnlineOptions:
    """The options of a method that `sample_rollouts` reads."""
    return OnlineOptions(
        num_generations=num_generations,
        response_length=options.response_length,
        temperature=options.temperature,
        rollout_batch_size=options.rollout_batch_size,
    )


def check_finite(loss: float, norm: float, where: str) -> None:
    """Raise TrainingError for a loss or a gradient that is not finite."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise TrainingError(
            f"the loss is {loss} and its gradient's norm {norm}",
            where=where,
            do="set a smaller align.learning_rate; the last state is kept",
        )
