"""The models of a training that samples: first resolves all names, then loads policy, reference, value model and rewards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignflow.data import catalogue
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.rewards import JudgeRewardOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError
from alignflow.data.records import read_table
from alignflow.data.run import Run
from alignflow.data.update_choices import check_update
from alignflow.models.batching import EncodedRow
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine, make_engine
from alignflow.models.generation.live import LiveSampler
from alignflow.models.policy import Policy, load_frozen, load_learner
from alignflow.models.rewards.shaping import LARGEST_CHANGE
from alignflow.models.rewards.sources import BoundSource, JudgeSource, RewardInputs, WeightedRewards, bind_sources
from alignflow.models.rewards.win_rates import check_group_size
from alignflow.models.rollouts import Prompts, encode_prompts
from alignflow.models.trainers.live_models import check_live, reference_logps
from alignflow.models.trainers.room import context_of, room
from alignflow.models.trainers.sft import read_rows
from alignflow.models.trainers.update import Learner, PolicyLoss
from alignflow.models.value_model import ValueModel, make_value_model


@dataclass(frozen=True)
class Bound:
    """A config with all names resolved; nothing is loaded.

    Attributes:
        config: The stage's config.
        method: Its row of the catalogue.
        options: The method's options.
        needs_values: Whether the estimator needs a value model.
        estimator: The advantage estimator.
        loss: The policy loss.
        sources: The rewards.
    """

    config: AlignConfig
    method: catalogue.Method
    options: Any
    needs_values: bool
    estimator: Callable[..., Any]
    loss: PolicyLoss
    sources: list[BoundSource]

    @property
    def prompts_per_update(self) -> int:
        """Prompts of one update, over all processes."""
        return self.config.batch_size // self.options.num_generations

    @property
    def value_config(self) -> AlignConfig:
        """The config with the value model's learning rate."""
        rate = getattr(self.options, "value_learning_rate", None)
        return self.config if rate is None else self.config.model_copy(update={"learning_rate": rate})


def bind(config: AlignConfig) -> Bound:
    """Look up and import everything that the config names; raises RecipeError for a wrong name or combination."""
    method = catalogue.look_up(catalogue.METHODS, config.method, "align.method")
    options: OnlineOptions = catalogue.parse_options(method, config.options, "align.options")
    check_update(options, "align.options")
    advantage, loss = catalogue.ADVANTAGES[options.advantage], catalogue.POLICY_LOSSES[options.policy_loss]
    for wrong, field, what, do in (
        (
            config.batch_size % options.num_generations,
            "num_generations",
            f"{config.batch_size} answers per update are not a multiple of {options.num_generations} per prompt",
            "change align.batch_size",
        ),
        (
            config.batch_size < options.num_mini_batches,
            "num_mini_batches",
            f"{options.num_mini_batches} mini-batches of {config.batch_size} answers",
            "set it to a smaller value, or align.batch_size to a larger one",
        ),
        (
            options.adaptive_kl and config.batch_size * LARGEST_CHANGE >= options.kl_horizon,
            "kl_horizon",
            f"with {config.batch_size} answers per update one update could take kl_coef to 0 or below",
            f"set it to more than {config.batch_size * LARGEST_CHANGE:g}; usually it covers the answers of many updates",
        ),
    ):
        if wrong:
            raise RecipeError(what, where=f"align.options.{field}", do=do)
    check_live(config, options)
    sources = bind_sources(options.rewards)
    for index, source in enumerate(sources):
        check_group_size(source.options, options.num_generations, f"align.options.rewards.{index}.options.against")
    return Bound(
        config,
        method,
        options,
        advantage.needs_values,
        advantage.resolve(),
        loss.resolve(),
        sources,
    )


def total_updates(bound: Bound, prompts: int) -> int:
    """Updates of a run: `max_steps`, or `total_episodes`, or as many as the epochs over the prompts have."""
    config, options = bound.config, bound.options
    if config.max_steps >= 0:
        return config.max_steps
    episodes = options.total_episodes or prompts * options.num_generations * config.num_train_epochs
    return math.ceil(episodes / config.batch_size - 1e-9)


@dataclass
class Participants:
    """The loaded models and data.

    Attributes:
        policy: The model that is aligned.
        reference: The frozen model of the KL penalty; None: the policy with its adapter off.
        generator: Samples from the policy itself, with the engine of the config.
        rewards: The sources of scores.
        watcher: The held-out judge; None without one.
        prompts: The prompts to sample answers for.
        learner: Takes optimizer steps.
        engines: policy, and value if there is a value model.
    """

    policy: Policy
    reference: Policy | None
    generator: LiveSampler
    rewards: WeightedRewards
    watcher: JudgeSource | None
    prompts: Prompts
    learner: Learner
    engines: dict[str, Engine]
    _stack: ExitStack

    def values(self, rows: list[EncodedRow]) -> torch.Tensor | None:
        """(N,) values before each token; None without a value model."""
        if self.learner.critic is None:
            return None
        critic = self.learner.critic[0]
        return torch.cat(critic.values(rows, critic.runtime.micro_batch_tokens))

    def reference_logps(self, rows: list[EncodedRow], temperature: float) -> torch.Tensor:
        """(N,) fp32 log-probabilities of the answers' tokens by the reference."""
        return reference_logps(self.policy, self.reference, rows, temperature)

    def close(self) -> None:
        """Free everything but the policy."""
        self._stack.close()


def load_participants(bound: Bound, paths: Mapping[str, Path | None], run: Run) -> Participants:
    """Load all models and data; raises ModelError, RecipeError or TrainingError for inputs that cannot be used."""
    options, runtime = bound.options, run.runtime
    path, reward_model = paths["policy"], paths["reward_model"]
    assert path is not None and paths["prompts"] is not None
    group.join(runtime)
    fewest = bound.prompts_per_update // group.size() * options.num_generations  # answers of one process
    if fewest < options.num_mini_batches:
        raise RecipeError(
            f"{bound.config.batch_size} answers per update are too few for {group.size()} processes and {options.num_mini_batches} mini-batches",
            where="align.batch_size",
            do="set it to a larger value, or engine.processes to a smaller one",
        )
    stack = ExitStack()
    policy = load_learner(path, bound.config, runtime, in_parts=True)
    own_reference = policy.adapter is not None and paths["reference"] in (None, path)
    engines: dict[str, Engine] = {
        "policy": stack.enter_context(closing(make_engine(policy.model, bound.config, runtime)))
    }
    critic = None
    if bound.needs_values:
        model: ValueModel = make_value_model(options.init_value_from, path, reward_model, runtime)
        print(f"the value model starts from the {model.origin.replace('_', ' ')}", flush=True)
        engines["value"] = stack.enter_context(closing(make_engine(model.model, bound.value_config, runtime)))
        critic = (model, engines["value"])
    longest, _ = room(bound.config.max_length, context_of(policy.model), "align.max_length")
    prompts = encode_prompts(
        read_table(paths["prompts"] / "train.parquet"), policy.tokenizer, longest - options.response_length, run
    )
    learner = Learner(
        (policy, engines["policy"]),
        critic,
        bound.loss,
        options,
        _demonstrations(bound, policy, paths, run),
        bound.config.seed,
    )
    heldout = options.heldout_judge
    return Participants(
        policy,
        None if own_reference else load_frozen(paths["reference"] or path, runtime, in_parts=True),
        stack.enter_context(closing(LiveSampler(policy, path, options.generator, longest))),
        stack.enter_context(
            closing(WeightedRewards(bound.sources, reward_model, run, path, options.normalize_rewards))
        ),
        stack.enter_context(
            closing(JudgeSource(JudgeRewardOptions(judge=heldout), RewardInputs(reward_model, path), run))
        )
        if heldout
        else None,
        prompts,
        learner,
        engines,
        stack,
    )


def _demonstrations(bound: Bound, policy: Policy, paths: Mapping[str, Path | None], run: Run) -> Sequence[EncodedRow]:
    """Rows of the ptx term in the order of the seed; empty if the method has none."""
    if not bound.options.ptx_coefficient:
        return []
    path = paths["demonstrations"]
    if path is None:
        raise RecipeError(
            "the ptx term needs demonstrations", where="align.options.ptx_coefficient", do="set data.demonstrations"
        )
    _, rows = read_rows(
        path / "train.parquet", policy.tokenizer, bound.config.max_length, run, context_of(policy.model)
    )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(bound.config.seed))
    return rows.reordered(order.tolist())
