"""The alignment methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import online, pairwise


@dataclass(frozen=True)
class Method(PartWithOptions):
    """One alignment method: its loss is a pure function over named batches.

    Attributes:
        trainer: The row of TRAINERS that runs it.
        takes: Names of the inputs of `align` that it works on; a trailing `?` marks one that its options decide about.
        columns: Columns of the data that it reads.
        needs: Figures per token that its loss takes: names of `token_statistics.STATISTICS`.
        needs_reference: Whether it compares with a frozen reference model.
        reference_tokens: Whether it needs the reference's log-probability of each token, and not the sums alone.
        paper: arXiv id.
    """

    trainer: str = "pairs"
    takes: tuple[str, ...] = ("policy", "reference?", "preferences")
    columns: tuple[str, ...] = ("prompt", "chosen", "rejected")
    needs: tuple[str, ...] = ("logps",)
    needs_reference: bool = True
    reference_tokens: bool = False
    paper: str = ""


METHODS: Mapping[str, Method] = {
    "dpo": Method(
        "alignflow.models.losses.dpo:dpo", "Direct Preference Optimization.", options=pairwise.DPOOptions, paper="2305.18290",
    ),
    "ppo": Method(
        "alignflow.models.losses.ppo:total_loss", "Proximal Policy Optimization: RLHF with a value model.",
        options=online.PPOOptions, trainer="online", takes=("policy", "reference", "prompts", "reward_model?", "demonstrations?"),
        columns=("prompt",), paper="1707.06347",
    ),
}  # fmt: skip
