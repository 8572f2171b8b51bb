"""A pairwise reward model in the style of PairRM (Jiang et al. 2023, arXiv 2306.02561): prompt and both answers in one input, one logit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from alignflow.data.configs.judges import PairRMOptions
from alignflow.data.errors import ModelError
from alignflow.data.records import prompt_text
from alignflow.data.rendering import encode_text
from alignflow.models.generation.journal import model_identity
from alignflow.models.judges.base import IDENTICAL, Candidate, JudgeInputs, Verdict, settled, sigmoid
from alignflow.models.judges.blanks import same_answer
from alignflow.models.judges.judge_model import NOT_FINITE, TOO_LONG
from alignflow.models.loading import load_whole, refuse_not_finite

Pair = tuple[Candidate, Candidate]


class PairRMJudge:
    """P(first) = (s(first, second) + 1 - s(second, first)) / 2, where s is the sigmoid of the model's logit.

    The input is one sequence of ids, all in one segment:

        START prompt SEP first SEP second SEP

    START is the tokenizer's CLS token, otherwise its BOS; SEP its SEP token, otherwise its EOS. The prompt is its turns, `role: text`, one a
    line. All three texts are encoded without control tokens, so that none of them can end its part.
    """

    pointwise: ClassVar[bool] = False

    def __init__(self, options: PairRMOptions, inputs: JudgeInputs):
        path, runtime = Path(options.model), inputs.run.runtime
        if (labels := AutoConfig.from_pretrained(path).num_labels) != 1:
            raise ModelError(
                f"the model has {labels} labels, and a pairwise model has one: the logit that the first answer is better",
                where=options.model,
                do="use an AutoModelForSequenceClassification with num_labels 1",
            )
        self.fingerprint = model_identity(path)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = load_whole(AutoModelForSequenceClassification, path, torch.float32).to(runtime.device).eval()
        refuse_not_finite(self._model, options.model)
        self._start, self._separator = _boundaries(self._tokenizer, options.model)
        limit = getattr(self._model.config, "max_position_embeddings", None)
        self._max_length = min(options.max_length, limit or options.max_length)
        # Without a separate padding token the model may take another position for the last one.
        self._rows = options.batch_size if self._model.config.pad_token_id is not None else 1

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts from both orders; no label for equal answers, an input that is too long, or a logit that is not finite."""
        reasons = [IDENTICAL if same_answer(first.text, second.text) else "" for first, second in pairs]
        inputs = [
            self._input(*order)
            for (first, second), reason in zip(pairs, reasons, strict=True)
            if not reason
            for order in ((first, second), (second, first))
        ]
        logits = iter(self._logits(inputs))
        return [Verdict(None, reason=reason) if reason else _verdict(next(logits), next(logits)) for reason in reasons]

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """No score: this model compares."""
        return [None for _ in candidates]

    def probability(self, first: float, second: float) -> float:
        """No score, so no probability from scores; raises TypeError."""
        raise TypeError("a pairwise model has no scores")

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """No parts."""
        return [{} for _ in candidates]

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None

    def _input(self, first: Candidate, second: Candidate) -> list[int]:
        ids = list(self._start)
        for text in (prompt_text([dict(turn) for turn in first.prompt]), first.text, second.text):
            ids += [*encode_text(self._tokenizer, text), self._separator]
        return ids

    def _logits(self, inputs: Sequence[list[int]]) -> list[float | None]:
        """One logit for each input, in batches of similar length; None for an input that is too long."""
        found: list[float | None] = [None] * len(inputs)
        order = sorted(
            (place for place, ids in enumerate(inputs) if len(ids) <= self._max_length),
            key=lambda place: (len(inputs[place]), place),
        )
        for start in range(0, len(order), self._rows):
            places = order[start : start + self._rows]
            for place, logit in zip(places, self._forward([inputs[place] for place in places]), strict=True):
                found[place] = logit
        return found

    @torch.no_grad()
    def _forward(self, batch: Sequence[list[int]]) -> list[float]:
        longest, pad = max(map(len, batch)), self._model.config.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in batch], device=self._model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch], device=self._model.device)
        logits: list[float] = self._model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
        return logits


def _boundaries(tokenizer: Any, model: str) -> tuple[list[int], int]:
    """Ids of START (none if the tokenizer has neither token) and SEP."""
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None:
        raise ModelError(
            "the tokenizer has neither a SEP nor an EOS token to separate prompt and answers",
            where=model,
            do="use a model whose tokenizer has one",
        )
    return ([] if start is None else [start]), separator


def _verdict(given: float | None, swapped: float | None) -> Verdict:
    if given is None or swapped is None:
        return Verdict(None, reason=TOO_LONG)
    if not (math.isfinite(given) and math.isfinite(swapped)):
        return Verdict(None, reason=NOT_FINITE)
    orders = (sigmoid(given), 1.0 - sigmoid(swapped))
    return Verdict(settled((orders[0] + orders[1]) / 2), orders=orders)
