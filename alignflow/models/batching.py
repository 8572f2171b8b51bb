"""Rows of token ids, packed without padding: one long sequence that holds a prompt of several rows once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

import torch


@dataclass(frozen=True)
class EncodedRow:
    """A prompt and what follows it, as token ids.

    Attributes:
        prompt_ids: Conditioned on; never scored.
        completion_ids: Scored.
        mask: Which completion tokens count; empty: all of them (a row with several turns also has tokens that do not count).
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
class Segment:
    """A stretch of the packed sequence: its tokens see the prefix before them and, causally, one another.

    Attributes:
        start: Place of its first token.
        length: Its tokens.
        prefix_start: Place of the prefix's first token.
        prefix_length: Tokens of the prefix; 0 for none.
    """

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0

    @property
    def total(self) -> int:
        """Tokens that its last token sees: the row's length."""
        return self.prefix_length + self.length


@dataclass(frozen=True)
class Packed:
    """Rows laid end to end: [prompt, completion, completion, ...] for each group of rows that share a prompt.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64, from 0 in each row: a completion's positions follow its prompt's.
        segments: One per row, in the order of the rows.
        predicting: (N,) int64: places whose next token counts, row by row.
        targets: (N,) int64: those next tokens.
        owners: (N,) int64: the row that each belongs to.
        last: (R,) int64: the place of each row's last token.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: tuple[Segment, ...]
    predicting: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    last: torch.Tensor


def pack(rows: Sequence[EncodedRow], device: str | torch.device = "cpu") -> Packed:
    """Put rows end to end, a shared prompt once; a row needs at least one token before each that counts."""
    segments: list[Segment] = [Segment(0, 0)] * len(rows)
    flat: list[int] = []
    positions: list[int] = []
    for group in prompt_groups(rows):
        prompt_start, prompt = len(flat), rows[group[0]].prompt_ids
        flat += prompt
        positions += range(len(prompt))
        for number, index in enumerate(group):
            completion = rows[index].completion_ids
            if number == 0:
                segments[index] = Segment(prompt_start, len(prompt) + len(completion))
            else:
                segments[index] = Segment(len(flat), len(completion), prompt_start, len(prompt))
            flat += completion
            positions += range(len(prompt), len(prompt) + len(completion))
    predicting: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for index, (row, segment) in enumerate(zip(rows, segments, strict=True)):
        places, following = _predicting(row, segment)
        predicting += places
        targets += following
        owners += [index] * len(places)

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Packed(
        input_ids=tensor(flat)[None],
        position_ids=tensor(positions)[None],
        segments=tuple(segments),
        predicting=tensor(predicting),
        targets=tensor(targets),
        owners=tensor(owners),
        last=tensor([_last(segment) for segment in segments]),
    )


def _last(segment: Segment) -> int:
    """Place of a row's last token; an empty completion's is that of its prompt."""
    return segment.start + segment.length - 1 if segment.length else segment.prefix_start + segment.prefix_length - 1


def _predicting(row: EncodedRow, segment: Segment) -> tuple[list[int], list[int]]:
    """Places whose next token counts, and those tokens; nothing predicts the first token of a row without a prompt."""
    first = segment.start + segment.length - len(row.completion_ids)  # place of the completion's first token
    before = segment.prefix_start + segment.prefix_length - 1 if segment.prefix_length else first - 1
    places = [before, *range(first, first + len(row.completion_ids) - 1)] if row.completion_ids else []
    targets = list(row.completion_ids)
    if not row.prompt_ids:
        places, targets = places[1:], targets[1:]
    if row.mask:
        counts = row.mask if row.prompt_ids else row.mask[1:]
        places, targets = list(compress(places, counts)), list(compress(targets, counts))
    return places, targets


def prompt_groups(rows: Sequence[EncodedRow]) -> list[list[int]]:
    """Positions of rows with one and the same prompt, in the order of first appearance; the longest completion first.

    The longest one comes right after its prompt, where its attention is cheapest. A row without a prompt is a group by itself.
    """
    groups: dict[tuple[int, ...] | int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.prompt_ids or index, []).append(index)
    return [sorted(group, key=lambda index: (-len(rows[index].completion_ids), index)) for group in groups.values()]


def packed_length(rows: Sequence[EncodedRow]) -> int:
    """Tokens of these rows in one forward pass: a shared prompt counts once."""
    return sum(
        len(rows[group[0]].prompt_ids) + sum(len(rows[index].completion_ids) for index in group)
        for group in prompt_groups(rows)
    )


def make_micro_batches(lengths: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
    """Positions of items, split so that each forward pass has at most `micro_batch_tokens` tokens (or one item).

    Args:
        lengths: Tokens of each item: a row, or all rows of a pair or list (`packed_length`).
        micro_batch_tokens: The budget.

    Items of similar length are put together, so that attention computes them together; the order depends on the
    lengths only.
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


def row_micro_batches(rows: Sequence[EncodedRow], micro_batch_tokens: int) -> list[list[int]]:
    """Positions of rows, split as by `make_micro_batches`, with rows of one prompt in one micro-batch if they fit."""
    items: list[list[int]] = []
    for group in prompt_groups(rows):
        items += _within(group, rows, micro_batch_tokens)
    batches = make_micro_batches([packed_length([rows[index] for index in item]) for item in items], micro_batch_tokens)
    return [[index for number in batch for index in items[number]] for batch in batches]


def _within(group: list[int], rows: Sequence[EncodedRow], micro_batch_tokens: int) -> list[list[int]]:
    """A group of rows with one prompt, split if it exceeds the budget."""
    prompt = len(rows[group[0]].prompt_ids)
    parts: list[list[int]] = []
    tokens = 0
    for index in group:
        length = len(rows[index].completion_ids)
        if not parts or tokens + length > micro_batch_tokens:
            parts.append([])
            tokens = prompt
        parts[-1].append(index)
        tokens += length
    return parts


def row_places(segments: Sequence[Segment], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the tokens of whole rows, prefix first.

    Returns:
        (rows, longest) int64 places, each row padded with its last one; and (rows, longest) bool: False for the padding.
    """
    numbers = [(segment.start, segment.prefix_start, segment.prefix_length, segment.total) for segment in segments]
    start, prefix_start, prefix_length, total = torch.tensor(numbers, device=device).T[:, :, None]
    offsets = torch.arange(max(segment.total for segment in segments), device=device)[None, :]
    columns = torch.minimum(offsets, total - 1)
    return torch.where(
        columns < prefix_length, prefix_start + columns, start + columns - prefix_length
    ), offsets < total


def group_similar(items: Sequence[int], size: Callable[[int], int], spare: float, most: int) -> list[list[int]]:
    """Groups of items whose sizes differ by at most the share `spare`, the smallest first.

    Args:
        items: The items to group.
        size: Size of an item.
        spare: Largest relative difference of sizes within a group.
        most: Largest sum of sizes in a group (or one item).
    """
    groups: list[list[int]] = []
    for item in sorted(items, key=lambda item: (size(item), item)):
        smallest = size(groups[-1][0]) if groups else 0
        if not groups or size(item) > smallest * (1 + spare) or (len(groups[-1]) + 1) * size(item) > most:
            groups.append([])
        groups[-1].append(item)
    return groups
