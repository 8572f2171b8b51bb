"""Configs of the stages that train: SFT, reward model, alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from alignflow.data.configs.base import Name, StageConfig, runtime_field, seed_field
from alignflow.data.configs.reward_losses import REWARD_LOSSES, RewardLoss
from alignflow.data.configs.staged import PartsBy
from alignflow.data.step_names import MOST_ROUNDS

GREATER_IS_BETTER: Mapping[str, bool] = {
    "eval_loss": False,
    "eval_mean_token_accuracy": True,
    "eval_accuracy": True,
    "eval_rewards/accuracies": True,
    "eval_rewards/margins": True,
    "eval_pearson": True,
}
MOVED_TO_OPTIONS = ("beta", "label_smoothing", "use_soft_labels")
"""Fields that `align` had for all methods before each method had options of its own."""
BEST = "The held-out metric that says which step is the best."
Aggregate = Literal["mean", "min", "uncertainty"]
"""How the scores of an ensemble of reward models become one."""


class LoRAConfig(StageConfig):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), fields as in peft's LoraConfig: the base stays as it is."""

    r: int = Field(default=16, ge=1, le=65536, description="Rank of the update of each matrix.")
    lora_alpha: int = Field(default=32, ge=1, le=1_000_000, description="The update is scaled by lora_alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the adapter, in training alone.")
    target_modules: Literal["all-linear"] | Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        default="all-linear",
        description="Names of the modules that get an adapter; all-linear: every linear layer but the head.",
    )


class TrainingConfig(StageConfig):
    """Fields of every training stage, named as in TRL and transformers."""

    learning_rate: float = Field(default=2e-5, gt=0, le=10, description="Peak learning rate, after warm-up.")
    num_train_epochs: float = Field(default=1.0, gt=0, le=100_000, description="Passes over the data.")
    max_steps: int = Field(
        default=-1, ge=-1, le=1_000_000_000_000, description="Optimizer steps; -1: as the epochs say."
    )
    batch_size: int = Field(
        default=32, gt=0, le=1_000_000, description="Rows (pairs) per optimizer step, all processes together."
    )
    max_length: int = Field(default=512, ge=8, le=10_000_000, description="Longest row, prompt and completion, tokens.")
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="Shape of the schedule after warm-up."
    )
    warmup_ratio: float = Field(default=0.05, ge=0, le=1, description="Share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, le=10, description="AdamW's decoupled decay.")
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1_000_000, description="Gradient clipping by global norm; 0: off."
    )
    seed: int = seed_field("Seed of data order and dropout.")
    logging_steps: int = runtime_field(
        default=5, gt=0, le=1_000_000_000, description="Steps between points of the curves."
    )
    save_steps: int = runtime_field(
        default=50,
        gt=0,
        le=1_000_000_000,
        description="Most steps between checkpoints to resume from. Methods that sample save more often, as long as it takes a twentieth of the time.",
    )
    eval_steps: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Steps between evaluations on held-out rows; empty or 0: only at the end.",
    )
    metric_for_best_model: str = Field(default="eval_loss", description=BEST)
    load_best_model_at_end: bool = Field(
        default=False, description="Publish the best step's model instead of the last one's."
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Stop after this many evaluations in a row without a better metric; empty: never.",
    )
    lora: LoRAConfig | None = Field(default=None, description="Train a low-rank adapter; empty: all weights.")
    gradient_checkpointing: bool = runtime_field(
        default=False,
        description="Compute the activations of each layer anew in the backward pass: less memory, a third more time.",
    )

    @property
    def greater_is_better(self) -> bool:
        """Which way `metric_for_best_model` is good."""
        return GREATER_IS_BETTER[self.metric_for_best_model]

    @model_validator(mode="after")
    def _the_best_needs_evaluations(self) -> TrainingConfig:
        for name in ("load_best_model_at_end", "early_stopping_patience"):
            if getattr(self, name) and not self.eval_steps:
                raise ValueError(f"{name} needs eval_steps")
        return self


class SFTConfig(TrainingConfig):
    """Supervised fine-tuning on assistant tokens only."""

    num_train_epochs: float = Field(default=3.0, gt=0, le=100_000, description="Passes over the demonstrations.")
    metric_for_best_model: Literal["eval_loss", "eval_mean_token_accuracy"] = Field(
        default="eval_loss", description=BEST
    )
    loss_reduction: Literal["token_mean", "sequence_mean"] = Field(
        default="token_mean",
        description="token_mean: the mean NLL over all assistant tokens of a step, so that long answers weigh more. sequence_mean: the mean "
        "over a step's rows of each row's mean NLL per token. Both are over all processes and micro-batches, and eval_loss is the same mean.",
    )
    train_on: Literal["all_assistant_turns", "last_turn"] = Field(
        default="all_assistant_turns",
        description="Which assistant turns of a conversation are learnt, and evaluated: all of them, or the last one that has a weight.",
    )
    neftune_noise_alpha: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="NEFTune (arXiv 2310.05914): uniform noise of at most alpha / sqrt(tokens of the row * width) on the embeddings in "
        "training, 5 to 15 in the paper; empty: none. A row's noise depends on seed, step and row, not on micro-batches or processes.",
    )
    l1_coefficient: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Sparse SFT (PAFT, arXiv 2406.17923): weight of the sum of the magnitudes of all entries of the adapter's factors, added to "
        "the loss of each step; needs lora. eval_loss is without it.",
    )

    @model_validator(mode="after")
    def _a_penalty_on_the_adapter_needs_one(self) -> SFTConfig:
        if self.l1_coefficient and self.lora is None:
            raise ValueError("l1_coefficient is a penalty on the weights of an adapter: set lora, or leave it out")
        return self


class RewardConfig(TrainingConfig):
    """Reward model: one score per answer, which starts at 0."""

    loss: Literal["bradley_terry", "ranking", "pointwise", "binary"] = Field(
        default="bradley_terry",
        description="bradley_terry: pairs. ranking: all pairs of each prompt's list of answers, in one batch element. pointwise: squared "
        "error to the answers' scores, which are taken as they are: scale them yourself where they are far from 0 and 1. binary: "
        "log-odds that an answer is wanted, from labelled answers, or from pairs as a wanted and an unwanted one.",
    )
    learning_rate: float = Field(default=1e-5, gt=0, le=10, description="Peak learning rate, after warm-up.")
    metric_for_best_model: Literal["eval_loss", "eval_accuracy", "eval_pearson"] = Field(
        default="eval_loss",
        description=f"{BEST} pointwise has eval_pearson, the correlation of scores and targets; others eval_accuracy.",
    )
    l2_coefficient: float = Field(
        default=0.001, ge=0, le=1000, description="bradley_terry, ranking: weight of the mean square of a row's scores."
    )
    center_rewards_coefficient: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="bradley_terry, ranking: weight of (r_chosen + r_rejected)^2, which removes the free constant.",
    )
    use_margin: bool = Field(default=False, description="bradley_terry: subtract the pair's margin inside the sigmoid.")
    use_soft_labels: bool = Field(
        default=True, description="bradley_terry: use the labeller's probabilities where the data has them."
    )
    check_rows: int = Field(
        default=16,
        ge=1,
        le=1_000_000,
        description="Rows whose scores are stored and must match when the model is loaded.",
    )
    bootstrap: bool = Field(
        default=False,
        description="Learn from a bootstrap sample: as many rows as there are, drawn with replacement by the seed.",
    )
    members: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Reward models of an ensemble, which differ by their seed: order of rows, dropout and first weights of an adapter, "
        "and with bootstrap the rows. Each is a step of its own, reward.1 and so on, and one more trains one model.",
    )
    aggregate: Aggregate = Field(
        default="mean",
        description="How the members' scores of an answer become one (arXiv 2310.02743). mean; min: the worst case; uncertainty: the mean "
        "minus uncertainty_weight times the variance over the members. Scores are taken as they are, neither centred nor scaled.",
    )
    uncertainty_weight: float = Field(
        default=0.1, ge=0, le=1000, description="uncertainty: weight of the variance over the members."
    )

    @property
    def about_loss(self) -> RewardLoss:
        """What feeds the loss, and what it is measured by."""
        return REWARD_LOSSES[self.loss]

    @model_validator(mode="after")
    def _the_weight_is_read(self) -> RewardConfig:
        default = type(self).model_fields["uncertainty_weight"].default
        if self.uncertainty_weight != default and self.aggregate != "uncertainty":
            raise ValueError(f"aggregate {self.aggregate} does not read uncertainty_weight: leave it out")
        return self

    @model_validator(mode="after")
    def _the_loss_reads_what_is_set(self) -> RewardConfig:
        row = REWARD_LOSSES[self.loss]
        unread = [name for name in row.unread if getattr(self, name) != type(self).model_fields[name].default]
        if unread:
            raise ValueError(f"the loss {self.loss} does not read {', '.join(unread)}: leave it out")
        if self.metric_for_best_model not in row.metrics:
            raise ValueError(
                f"the loss {self.loss} has no {self.metric_for_best_model}: metric_for_best_model is one of {', '.join(row.metrics)}"
            )
        return self


class RewardEnsembleConfig(StageConfig):
    """Several reward models as one; filled from `reward`."""

    aggregate: Aggregate = Field(default="mean", description="How the members' scores of an answer become one.")
    uncertainty_weight: float = Field(
        default=0.1, ge=0, le=1000, description="uncertainty: weight of the variance over the members."
    )
    reward: RewardConfig | None = Field(
        default=None, description="How the members were trained, for figures on held-out rows; empty: no figures."
    )


class ReferenceConfig(StageConfig):
    """Log-probabilities of the answers under the frozen reference; filled from the alignment that takes them."""

    max_length: int = Field(default=512, ge=8, le=10_000_000, description="Longest row, prompt and completion, tokens.")
    per_token: bool = Field(default=False, description="Keep the log-probability of each token beside the sums.")
    family: Name = Field(default="pairs", description="The family of methods that reads the answers.")
    mismatched: bool = Field(default=False, description="Score an answer of another prompt beside each answer, too.")


class SplitConfig(StageConfig):
    """How pairs are cut into parts, one for each round; filled from the options of the method that takes them."""

    parts: int = Field(default=2, ge=2, le=MOST_ROUNDS, description="Number of parts.")
    order: PartsBy = Field(default="easy_to_hard", description="What decides in which part a pair is.")


class AlignConfig(TrainingConfig):
    """Alignment of the SFT model by a method of the catalogue."""

    method: str = Field(
        default="dpo",
        min_length=1,
        max_length=4500,
        description="A name of `alignflow methods`, or a loss of your own: path/to/file.py:NAME, package.module:NAME.",
    )
    learning_rate: float = Field(default=1e-6, gt=0, le=10, description="Peak learning rate, after warm-up.")
    metric_for_best_model: Literal["eval_loss", "eval_rewards/accuracies", "eval_rewards/margins"] = Field(
        default="eval_loss", description=BEST
    )
    sft_coefficient: float = Field(
        default=0.0, ge=0, le=1000, description="Weight of the NLL per token of the chosen answers (RPO term)."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What this method alone has; see `alignflow methods METHOD`."
    )
    max_logps_drop: float = runtime_field(
        default=0.5,
        gt=0,
        le=1_000_000,
        description="Warn where held-out answers that are wanted lose more than this, nats per token.",
    )

    @model_validator(mode="before")
    @classmethod
    def _what_is_an_option_now(cls, given: Any, info: ValidationInfo) -> Any:
        moved = [name for name in MOVED_TO_OPTIONS if isinstance(given, Mapping) and name in given]
        if moved:
            method = given.get("method", cls.model_fields["method"].default)
            known = (info.context or {}).get("options_of", {}).get(method) if isinstance(method, str) else None
            raise ValueError("; ".join(_where_it_went(name, method, known) for name in moved))
        return given


def _where_it_went(name: str, method: str, known: Sequence[str] | None) -> str:
    """What to write instead of a field that became an option; `known` are the method's options, None where nothing says."""
    if known is None or name in known:
        return f"{name} is an option of the method: write align.options.{name}"
    return f"{method} has no {name}; it has {', '.join(known)}"
