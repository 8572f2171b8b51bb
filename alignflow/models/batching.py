"""Rows of token ids, packed without padding: one long sequence in which each row sees itself alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class EncodedRow:
    """A prompt and what follows it, as token ids.

    Attributes:
        prompt_ids: Conditioned on; never scored.
        completion_ids: Scored.
        mask: Which completion tokens count; empty for all of them (several turns in one row have others in between).
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def supervised(self) -> int:
        """Number of tokens that count."""
        return sum(self.mask) if self.mask else len(self.completion_ids)


@dataclass(frozen=True)
class Packed:
    """Rows laid end to end.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64, from 0 in each row.
        lengths: Tokens of each row.
        gather: (R, L) int64: where token t of row r stands in the sequence; places past a row's end point to 0.
        scatter: (T,) int64: where each token stands in the flattened (R, L) grid.
        predicting: (N,) int64: places whose next token counts, row by row.
        targets: (N,) int64: those next tokens.
        owners: (N,) int64: the row that each belongs to.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: tuple[int, ...]
    gather: torch.Tensor
    scatter: torch.Tensor
    predicting: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor

    @property
    def last(self) -> torch.Tensor:
        """(R,) int64: the place of each row's last token."""
        return torch.tensor(self.lengths, device=self.input_ids.device).cumsum(0) - 1


def pack(rows: Sequence[EncodedRow], device: str | torch.device = "cpu") -> Packed:
    """Lay rows end to end; a row needs at least one token before each that counts."""
    lengths = [len(row) for row in rows]
    starts = [0]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length)
    width = max(lengths)
    flat: list[int] = []
    predicting: list[int] = []
    owners: list[int] = []
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        flat += row.prompt_ids
        flat += row.completion_ids
        first = start + len(row.prompt_ids) - 1
        places = [first + offset for offset, counts in enumerate(row.mask or (True,) * len(row.completion_ids)) if counts]
        if places and places[0] < start:  # a row without a prompt: nothing predicts its first token
            places = places[1:]
        predicting += places
        owners += [index] * len(places)
    sizes, begins = torch.tensor(lengths), torch.tensor(starts)
    columns = torch.arange(width)
    inside = columns[None, :] < sizes[:, None]
    gather = torch.where(inside, begins[:, None] + columns[None, :], 0)
    ids, places_tensor = torch.tensor(flat), torch.tensor(predicting, dtype=torch.long)
    return Packed(
        input_ids=ids[None].to(device),
        position_ids=torch.cat([columns[:length] for length in lengths])[None].to(device),
        lengths=tuple(lengths),
        gather=gather.to(device),
        scatter=inside.flatten().nonzero()[:, 0].to(device),
        predicting=places_tensor.to(device),
        targets=ids[places_tensor + 1].to(device),
        owners=torch.tensor(owners, dtype=torch.long, device=device),
    )


def make_micro_batches(lengths: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
    """Positions of rows, split so that each forward pass has at most `micro_batch_tokens` tokens (or one row).

    Rows of similar length stand together, so that the attention's grid has little waste; the order is a function of
    the lengths alone.
    """
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if not batches or tokens + lengths[index] > micro_batch_tokens:
            batches.append([])
            tokens = 0
        batches[-1].append(index)
        tokens += lengths[index]
    return batches
