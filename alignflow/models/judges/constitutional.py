"""The constitutional judge: a language model decides which answer keeps a principle better, in both orders."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.judges import ConstitutionalOptions
from alignflow.data.principle_files import WrittenPrinciple, read_principles
from alignflow.data.records import prompt_digest
from alignflow.models.judges.base import JudgeInputs, Verdict, settled
from alignflow.models.judges.llm import LLMJudge, Pair
from alignflow.models.judges.model_judges import weighted_mean

LEFT_OUT = "principles_without_label"


class ConstitutionalJudge(LLMJudge):
    """Judges by one principle, drawn for each prompt, or by all of them (Bai et al. 2022, arXiv 2212.08073, section 4.1).

    A principle is drawn in proportion to its weight, by the prompt's text and the seed, so that all pairs of a prompt are judged
    by the same one. With all principles, a pair's probabilities are averaged with the weights; `parts` has each of them.
    """

    name: ClassVar[str] = "constitutional"

    def __init__(self, options: ConstitutionalOptions, inputs: JudgeInputs):
        self._principles = read_principles(options.principles)
        self._each = options.mode == "each"
        super().__init__(options, inputs)
        # The questions depend on the file's content, which may change while its name in the options does not.
        self.fingerprint = text_digest(self.fingerprint + repr(self._principles))

    def _compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        if not self._each:
            drawn = [drawn_principle(self._principles, self._seed, pair[0].prompt) for pair in pairs]
            verdicts = self.verdicts(pairs, [principle.text for principle in drawn])
            return [
                replace(verdict, principle=principle.name) for verdict, principle in zip(verdicts, drawn, strict=True)
            ]
        of_principle = [self.verdicts(pairs, [each.text] * len(pairs)) for each in self._principles]
        return [self._by_each(verdicts) for verdicts in zip(*of_principle, strict=True)]

    def _by_each(self, verdicts: Sequence[Verdict]) -> Verdict:
        """One verdict from those by each principle; a principle without a label is dropped and counted."""
        labelled = [
            (principle, verdict)
            for principle, verdict in zip(self._principles, verdicts, strict=True)
            if verdict.probability is not None
        ]
        if not labelled:
            return verdicts[0]
        weights = [principle.weight for principle, _ in labelled]
        parts = {principle.name: verdict.probability for principle, verdict in labelled}
        if len(labelled) < len(verdicts):
            parts[LEFT_OUT] = float(len(verdicts) - len(labelled))
        orders = [_mean([verdict.orders[order] for _, verdict in labelled], weights) for order in (0, 1)]
        masses = [_mean([verdict.masses[order] for _, verdict in labelled], weights) for order in (0, 1)]
        rationales = [
            "\n\n".join(
                f"{principle.name}: {verdict.rationales[order]}"
                for principle, verdict in labelled
                if verdict.rationales[order]
            )
            for order in (0, 1)
        ]
        probability = settled(math.fsum(order for order in orders if order is not None) / 2)
        return Verdict(
            probability,
            orders=(orders[0], orders[1]),
            masses=(masses[0], masses[1]),
            rationales=(rationales[0], rationales[1]),
            parts={name: value for name, value in parts.items() if value is not None},
        )


def drawn_principle(principles: Sequence[WrittenPrinciple], seed: int, prompt: Sequence[Any]) -> WrittenPrinciple:
    """The principle of a prompt: drawn by weight, the same in every run and batch."""
    weights = [principle.weight for principle in principles]
    return random.Random(f"{seed}/{prompt_digest(prompt)}").choices(principles, weights)[0]


def _mean(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    return weighted_mean(known, weights) if len(known) == len(values) else None
