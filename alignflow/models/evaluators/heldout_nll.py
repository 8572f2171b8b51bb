"""NLL per token on general text: the cost of alignment in language modelling."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from alignflow.data.encoded_kinds import encode_demonstrations
from alignflow.data.encoded_rows import AnswerIds
from alignflow.data.records import table_batches
from alignflow.data.rendering import encode_text
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs
from alignflow.models.policy import completion_logps


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Mean NLL in nats per token of both models on the same text, and the relative change; 0.1 is 10% worse."""
    assert inputs.general is not None
    nll: dict[str, float] = {}
    tokens = 0
    for model in reversed(MODELS):  # the previous evaluator left the SFT model loaded
        policy = inputs.policy(model)
        context = getattr(policy.model.config, "max_position_embeddings", None)
        said = inputs.run if model == MODELS[-1] else None  # both models have the same text
        rows = general_rows(inputs.general, policy.tokenizer, inputs.config.max_general_rows, context, said)
        logps = completion_logps(policy, rows, inputs.run.runtime.micro_batch_tokens)
        tokens = sum(len(row) for row in logps)
        nll[model] = -sum(float(row.sum()) for row in logps) / max(tokens, 1)
    change = nll["aligned"] / nll["sft"] - 1
    metrics = {"heldout_nll/aligned": nll["aligned"], "heldout_nll/sft": nll["sft"], "heldout_nll/change": change}
    return Evaluation({**metrics}, {**metrics, "tokens": tokens})


def general_rows(
    directory: Path, tokenizer: Any, limit: int, context: int | None, run: Run | None = None
) -> list[EncodedRow]:
    """Rows of plain text, each after BOS (EOS if the tokenizer has none), or of conversations; cut at the context, which `run` reports."""
    plain = directory / "texts.parquet"
    if not plain.exists():
        answers = encode_demonstrations(tokenizer, _first_rows(directory / "demonstrations.parquet", limit))
        whole = [answer for (answer,) in answers]
        _say_cut([len(answer.prompt_ids) + len(answer.completion_ids) for answer in whole], context, run)
        rows = [_cut(answer, context) for answer in whole]
        return [row for row in rows if row.supervised]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    texts = [encode_text(tokenizer, row["text"]) for row in _first_rows(plain, limit)]
    _say_cut([len(ids) + 1 for ids in texts], context, run)
    return [EncodedRow((start,), tuple(ids[: context - 1 if context else None])) for ids in texts if ids]


def _say_cut(lengths: list[int], context: int | None, run: Run | None) -> None:
    cut = [length for length in lengths if context is not None and length > context]
    if cut and run is not None:
        run.warn(
            f"{len(cut)} of {len(lengths)} general texts are longer than the context of {context} tokens: what lies behind it is not scored"
        )


def _cut(answer: AnswerIds, context: int | None) -> EncodedRow:
    """The part of an answer within the context; empty if the prompt alone is longer."""
    room = None if context is None else max(0, context - len(answer.prompt_ids))
    return EncodedRow(answer.prompt_ids, answer.completion_ids[:room], answer.mask[:room])


def _first_rows(table: Path, limit: int) -> list[dict[str, Any]]:
    return list(islice((row for batch in table_batches(table, 1024) for row in batch), limit))
