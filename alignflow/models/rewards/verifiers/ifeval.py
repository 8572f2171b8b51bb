"""The row's verifiable instructions, by IFEval's names (Zhou et al. 2023, arXiv 2311.07911); the checks themselves are in `evaluators/checks.py`."""

from __future__ import annotations

import json
from typing import Any

from alignflow.data.configs.verifiers import IFEvalOptions
from alignflow.models.evaluators.checks import CHECKS, kept, loose_forms
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import Outcome, unchecked


class IFEval:
    """Whether all instructions of a row are kept, or the share of them. A row with an instruction that has no check has no score."""

    def __init__(self, options: IFEvalOptions):
        self._options = options

    def check(self, episode: Episode) -> Outcome:
        """Check every instruction."""
        instructions = _instructions(episode.row)
        if not instructions:
            return unchecked("the row has no instructions")
        for instruction in instructions:
            if str(instruction.get("id")) not in CHECKS:
                return unchecked(f"no check for the instruction {str(instruction.get('id'))[:80]!r}")
        verdicts = [self._kept(episode.text, instruction) for instruction in instructions]
        for instruction, found in zip(instructions, verdicts, strict=True):
            if found is None:
                return unchecked(f"the arguments of {instruction['id']!r} cannot be used")
        share = sum(map(bool, verdicts)) / len(verdicts)
        return Outcome(share if self._options.score == "instruction" else float(share == 1))

    def _kept(self, text: str, instruction: dict[str, Any]) -> bool | None:
        strict = kept(text, instruction)
        if self._options.reading == "strict" or strict is not False:
            return strict
        return any(kept(form, instruction) for form in loose_forms(text))


def _instructions(row: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        found = json.loads(row.get("instructions") or "[]")
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(each, dict) for each in found) else []
