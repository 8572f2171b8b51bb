"""What a row of the table of alignment methods says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from alignflow.data.catalogue import families
from alignflow.data.catalogue.base import PartWithOptions


@dataclass(frozen=True)
class Iterated:
    """How a method runs in rounds where the recipe does not say.

    Attributes:
        number: Rounds.
        reference: Whom a round compares with: the model before the first round, or the one that the round starts from.
        sample: Fields of `sample` that its paper sets, for those that the recipe does not.
        label: Fields of `label` likewise.
        judges_itself: Whether a judge without a model of its own is the policy of the round, and not the model before the first.
    """

    number: int = 3
    reference: Literal["initial", "previous"] = "initial"
    sample: Mapping[str, Any] = field(default_factory=dict)
    label: Mapping[str, Any] = field(default_factory=dict)
    judges_itself: bool = False


@dataclass(frozen=True)
class Method(PartWithOptions):
    """One alignment method: its loss is a pure function over named batches.

    Attributes:
        family: The row of FAMILIES that it belongs to: its data, and what runs it.
        needs: Figures per token that its loss takes: names of `token_statistics.STATISTICS`.
        needs_reference: Whether it compares with a frozen reference model.
        reference_tokens: Whether it needs the reference's log-probability of each token (`reference_logps`), and not the sums alone.
        live_reference: Whether it compares whole distributions, so that the reference runs beside the policy in every step.
        teacher: The option that names a second checkpoint, which runs beside the policy in every step; empty: there is none.
        value_network: Whether a network of its own estimates the value of each token's state (`statistics["values"]`), and learns beside
            the policy.
        measured_with: Arguments of `Policy.token_statistics` that its options give, as (argument, option).
        whole_step: Address of what makes the figures of `OfflineBatch.step` from the answers of a whole optimizer step; see
            `models/losses/step_scalars.py`.
        step_reads: What of the answers `whole_step` looks at: labels alone, their log-probabilities, or those of answers to other
            prompts.
        nll_option: The option that weighs the chosen answers' NLL against the rest, where the loss has that NLL itself; empty: it
            has none, and `align.sft_coefficient` adds it.
        rounds: How it samples, judges and trains in rounds; None: it learns once from data that is there, unless the recipe says otherwise.
        formula: What its loss is, in the symbols of the papers: rho is log pi - log pi_ref summed over an answer's tokens, lp the
            policy's log-probability likewise, avg their mean; w and l are the chosen and the rejected answer, s the sigmoid.
        paper: arXiv id; empty where there is no paper.
    """

    family: str = "pairs"
    needs: tuple[str, ...] = ("logps",)
    needs_reference: bool = True
    reference_tokens: bool = False
    live_reference: bool = False
    teacher: str = ""
    value_network: bool = False
    measured_with: tuple[tuple[str, str], ...] = ()
    whole_step: str = ""
    step_reads: Literal["labels", "logps", "mismatched"] = "logps"
    nll_option: str = ""
    rounds: Iterated | None = None
    formula: str = ""
    paper: str = ""

    @property
    def mismatched(self) -> bool:
        """Whether it needs what the reference says of answers to other prompts."""
        return bool(self.whole_step) and self.step_reads == "mismatched"

    def learns_from(self) -> families.Family:
        """The family's row."""
        return families.FAMILIES[self.family]
