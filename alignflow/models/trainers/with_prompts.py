"""Rows whose NLL includes the prompt: each wanted answer has its own copy of the prompt in a forward pass, and all tokens count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from alignflow.models.batching import EncodedRow
from alignflow.models.sequences import token_places
from alignflow.models.stored_rows import plain
from alignflow.models.token_statistics import TokenStatistics
from alignflow.models.trainers.offline_rows import OfflineRows


def count_prompts(rows: OfflineRows) -> OfflineRows:
    """The same rows, with prompts in the NLL of the wanted answers. A wanted answer then does not share its prompt's computation.

    All tokens of the answers must count.
    """
    totals = np.concatenate([[0], rows.answer_lengths[rows.members].cumsum()])
    return replace(rows, prompts=True, lengths=plain(np.diff(totals[rows.starts])))


def with_prompt(row: EncodedRow) -> EncodedRow:
    """The row with all tokens but the first, which has no prediction, as its completion."""
    return EncodedRow(row.prompt_ids[:1], (*row.prompt_ids[1:], *row.completion_ids))


def apart(found: TokenStatistics, before: torch.Tensor) -> tuple[TokenStatistics, torch.Tensor]:
    """Statistics of the answers' own tokens, and the sums of the log-probabilities of those before them.

    Args:
        found: Statistics of rows that begin with `before` tokens of their prompts.
        before: (rows,) int64.

    Returns:
        The statistics without these tokens, and (rows,) fp32 nats with gradients, 0 if there are none.
    """
    of_prompt = token_places(found.counts().long()) < before.to(found.owners.device)[found.owners]
    sums = found.logps.new_zeros(found.rows).index_add(0, found.owners[of_prompt], found.logps[of_prompt])
    values = {name: figures[~of_prompt] for name, figures in found.values.items()}
    return TokenStatistics(found.owners[~of_prompt], found.rows, values), sums
