"""Options of the sources of scores in training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alignflow.data.configs.base import ContentPath, Name, StageConfig
from alignflow.data.configs.generation import JudgeConfig


class RewardSourceConfig(StageConfig):
    """One source of scores; the score of an answer is the weighted sum of its sources."""

    name: Name = Field(
        default="reward_model", description="A name of `alignflow rewards`, such as verifier, judge or function."
    )
    weight: float = Field(
        default=1.0, ge=-1_000_000, le=1_000_000, description="Factor of its scores; negative: a penalty."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What this source alone has; see `alignflow rewards NAME`."
    )


class RewardModelRewardOptions(StageConfig):
    """Scores of a reward model: the recipe's own, or another directory."""

    model: ContentPath | None = Field(default=None, description="Directory of a reward model; empty: the recipe's.")


class JudgeRewardOptions(StageConfig):
    """Scores of a pointwise judge."""

    judge: JudgeConfig = Field(
        default_factory=JudgeConfig, description="The judge; one that only compares pairs has no scores."
    )


class WinRateRewardOptions(StageConfig):
    """Wins by a judge that compares answers to the same prompt."""

    judge: JudgeConfig = Field(default_factory=JudgeConfig, description="The judge, pairwise or pointwise.")
    against: Literal["group", "reference"] = Field(
        default="group",
        description="The other answers of the update to the same prompt (num_generations of 2 or more); or the row's reference answer.",
    )


class FunctionRewardOptions(StageConfig):
    """Scores of a Python function of your own, called as `function(prompt, completion, row) -> float`."""

    function: str = Field(
        max_length=4500,
        pattern=r"^([A-Za-z_][\w.]*|.+\.py):[A-Za-z_]\w*$",
        description="path/to/file.py:function, relative to the recipe, or package.module:function from PYTHONPATH; the file's content enters the cache key.",
    )
