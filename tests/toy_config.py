"""Config of the tiny training of `training_support`; without torch, so that every process may know its stage."""

from alignflow.data.configs.base import runtime_field
from alignflow.data.configs.training import TrainingConfig


class ToyTrainingConfig(TrainingConfig):
    """Three rows a step: with two processes one of them always has less."""

    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    max_steps: int = 4
    batch_size: int = 3
    lr_scheduler_type: str = "constant"
    logging_steps: int = runtime_field(default=1)
    save_steps: int = runtime_field(default=100)
    dropout: float = 0.0
    tied: bool = True
    pause_s: float = runtime_field(default=0.0)
    fail: str = runtime_field(default="")
