"""Options of methods that train on one part of the data after the other, each from the model of the part before."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.pairwise import DPOOptions
from alignflow.data.step_names import MOST_ROUNDS

PartsBy = Literal["easy_to_hard", "given", "sources"]


class StagedOptions(StageConfig):
    """Into how many parts the data is cut, and by what: the steps of the run, and no part of what a single round computes."""

    stages: int = Field(
        default=2, ge=2, le=MOST_ROUNDS, description="Number of rounds, each on a part of the data of its own."
    )
    order: PartsBy = Field(
        default="easy_to_hard",
        description="easy_to_hard: first the pairs whose chosen answer the model before alignment finds the most probable, beside the "
        "rejected one; given: as the data has them; sources: a part for each source, in the order of the recipe.",
    )


class SDPOOptions(DPOOptions, StagedOptions):
    """Stepwise DPO: options of DPO, the same in each round, and how the data is cut."""
