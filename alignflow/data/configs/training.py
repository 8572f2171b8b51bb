"""Configs of the stages that train: SFT, reward model, alignment."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig, runtime_field


class TrainingConfig(StageConfig):
    """Fields of every training stage, named as in TRL and transformers."""

    learning_rate: float = Field(default=2e-5, gt=0, description="Peak learning rate, after warm-up.")
    num_train_epochs: float = Field(default=1.0, gt=0, description="Passes over the data.")
    max_steps: int = Field(default=-1, ge=-1, description="Optimizer steps; -1: as the epochs say.")
    batch_size: int = Field(default=32, gt=0, description="Rows (pairs) per optimizer step, all processes together.")
    max_length: int = Field(default=512, ge=8, description="Longest row, prompt and completion, tokens.")
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = Field(default="cosine", description="Shape of the schedule after warm-up.")
    warmup_ratio: float = Field(default=0.05, ge=0, le=1, description="Share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's decoupled decay.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradient clipping by global norm; 0: off.")
    seed: int = Field(default=0, ge=0, description="Seed of data order and dropout.")
    logging_steps: int = runtime_field(default=5, gt=0, description="Steps between points of the curves.")
    save_steps: int = runtime_field(default=50, gt=0, description="Steps between checkpoints to resume from.")


class SFTConfig(TrainingConfig):
    """Supervised fine-tuning on assistant tokens only."""

    num_train_epochs: float = Field(default=3.0, gt=0, description="Passes over the demonstrations.")


class RewardConfig(TrainingConfig):
    """Bradley-Terry reward model."""

    learning_rate: float = Field(default=1e-5, gt=0, description="Peak learning rate, after warm-up.")
    l2_coefficient: float = Field(default=0.001, ge=0, description="Weight of the mean square of both scores.")
    center_rewards_coefficient: float = Field(
        default=0.0, ge=0, description="Weight of (r_chosen + r_rejected)^2, which removes the free constant."
    )
    use_margin: bool = Field(default=False, description="Subtract the pair's margin inside the sigmoid.")
    use_soft_labels: bool = Field(default=True, description="Use the labeller's probabilities where the data has them.")
    check_rows: int = Field(default=16, ge=1, description="Rows whose scores are stored and must match when the model is loaded.")


class AlignConfig(TrainingConfig):
    """Alignment of the SFT model by a method of the catalogue."""

    method: str = Field(default="dpo", description="A name of `alignflow methods`.")
    learning_rate: float = Field(default=1e-6, gt=0, description="Peak learning rate, after warm-up.")
    beta: float | None = Field(default=None, gt=0, description="Strength of the pull to the reference; empty: the method's default.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Probability that a label is flipped.")
    use_soft_labels: bool = Field(default=False, description="Weigh both orders of a pair by the labeller's probability.")
    sft_coefficient: float = Field(default=0.0, ge=0, description="Weight of the NLL per token of the chosen answers (RPO term).")
    options: dict[str, Any] = Field(default_factory=dict, description="What this method alone has; see `alignflow methods METHOD`.")
