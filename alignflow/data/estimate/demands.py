"""What a stage is asked about, the settings that decide about its memory, and its needs by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from alignflow.data.configs.generation import EvaluateConfig, SampleConfig
from alignflow.data.configs.training import TrainingConfig
from alignflow.data.estimate.memory import Scorers
from alignflow.data.estimate.place import Need, Place
from alignflow.data.estimate.shapes import ModelShape
from alignflow.data.run import Runtime

Shapes = Mapping[str, ModelShape | None]
"""Input of a stage -> the shape of the model that it brings; None is unknown."""


@dataclass(frozen=True)
class Settings:
    """What decides about memory, and can be changed.

    Attributes:
        place: Device, precision, ZeRO stage, processes, offload.
        micro_batch_tokens: Tokens of one forward pass.
        rows: Rows that are sampled together.
        lora_rank: Rank of the adapters; None: all weights learn.
        gradient_checkpointing: Whether layers compute their activations anew.
        fill: Mean length of rows, as a share of the longest that is allowed; 1 for an upper bound.
    """

    place: Place
    micro_batch_tokens: int
    rows: int = 0
    lora_rank: int | None = None
    gradient_checkpointing: bool = False
    fill: float = 1.0


@dataclass(frozen=True)
class Demand:
    """A stage's needs.

    Attributes:
        settings: As the recipe has them.
        need: Settings -> memory of one process.
        longest_row: Tokens of the longest row of a training, under which micro_batch_tokens saves nothing; 0: it does not train.
        published: Bytes that it leaves in the store; 0 where they are few.
        states: Bytes of its training states.
        whole: Whether each process needs the whole policy at some moment, so that ZeRO 3 is no remedy.
    """

    settings: Settings
    need: Callable[[Settings], Need]
    longest_row: int = 0
    published: int = 0
    states: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Asked:
    """A stage as it is asked about: its config, the shapes of its inputs, the runtime, and the longest prompt, tokens.

    An input that is an ensemble of reward models has the shape of the first member in `shapes`, and those of all in `members`; there
    the step that makes an ensemble has its own as `members`.
    """

    config: Any
    shapes: Shapes
    runtime: Runtime
    prompt_length: int
    members: Mapping[str, Scorers] = field(default_factory=dict)

    def scoring(self) -> Scorers | None:
        """The shapes of all models that give a score of the input `reward_model`: one, or an ensemble's; None without the input."""
        single = (self.shapes["reward_model"],) if "reward_model" in self.shapes else None
        return self.members.get("reward_model", single)


def place_of(runtime: Runtime) -> Place:
    """How a runtime shares the work."""
    return Place(
        runtime.device,
        runtime.precision,
        runtime.engine,
        runtime.zero_stage,
        runtime.world_size,
        runtime.nodes,
        runtime.offload,
    )


def settings_of(config: BaseModel, runtime: Runtime) -> Settings:
    """The settings of a stage as its recipe has them; an adapter counts as one on all linear layers."""
    settings = Settings(place_of(runtime), runtime.micro_batch_tokens)
    if isinstance(config, SampleConfig | EvaluateConfig):
        return replace(settings, rows=config.batch_size)
    if isinstance(config, TrainingConfig):
        rank = config.lora.r if config.lora else None
        return replace(settings, lora_rank=rank, gradient_checkpointing=config.gradient_checkpointing)
    return settings


def single(config: BaseModel, runtime: Runtime) -> Settings:
    """The settings of a stage that runs in one process, whatever the engine trains with."""
    settings = settings_of(config, runtime)
    return replace(settings, place=replace(settings.place, processes=1, nodes=1, zero_stage=1, offload="none"))
