"""Prompts as one tree, in one forward pass without padding: a common beginning is computed once.

Judge questions share a lot: all begin with the same instructions, and the two orders of a pair with the same conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignflow.models import attention
from alignflow.models.attention import FAR, LARGEST_RECTANGLE, SPARE, Layout, Rectangle
from alignflow.models.batching import group_similar

AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest difference of logits, as a share of the largest one, at which two ways to compute them count as equal."""

_SHORTEST_RUN = 8  # tokens: if fewer are shared, computing them twice is cheaper than one more piece of attention


@dataclass(frozen=True)
class Run:
    """Tokens that follow one another without a branch.

    Attributes:
        start: Place of its first token in the packed sequence.
        length: Its tokens.
        before: Places of the tokens before it, from the first of the prompt on, as ranges (start, length).
    """

    start: int
    length: int
    before: tuple[tuple[int, int], ...]

    @property
    def total(self) -> int:
        """Tokens that its last token sees."""
        return self.length + sum(length for _, length in self.before)


@dataclass(frozen=True)
class PromptTree:
    """Prompts end to end, each shared beginning once.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64: position of each token within its prompt.
        runs: The pieces between branches; together they are the sequence.
        last: (prompts,) int64: the place of each prompt's last token.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    runs: tuple[Run, ...]
    last: torch.Tensor


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Length in tokens of the common beginning of two prompts."""
    shortest = min(len(one), len(other))
    low, high = 0, shortest
    while low < high:  # bisection: a comparison of slices is a hundred times as fast as one in Python
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def tree_batches(prompts: Sequence[tuple[int, ...]], most: int) -> list[list[int]]:
    """Positions of prompts in the order of their tokens, cut so that each tree has at most `most` tokens (or one prompt)."""
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(prompts)), key=lambda index: (prompts[index], index)):
        new = len(prompts[index])
        if batches:
            new -= shared_length(prompts[batches[-1][-1]], prompts[index])
        if not batches or tokens + new > most:
            batches.append([])
            tokens, new = 0, len(prompts[index])
        batches[-1].append(index)
        tokens += new
    return batches


def grow(prompts: Sequence[tuple[int, ...]], device: str | torch.device = "cpu") -> PromptTree:
    """The tree of some prompts; each has at least one token, and equal ones are one."""
    flat: list[int] = []
    positions: list[int] = []
    runs: list[Run] = []
    last = [0] * len(prompts)

    def add(members: list[int], depth: int, before: tuple[tuple[int, int], ...]) -> None:
        """Add the run from `depth` on that sorted `members` share, then its branches."""
        first, end = prompts[members[0]], shared_length(prompts[members[0]], prompts[members[-1]])
        if end > depth:
            runs.append(Run(len(flat), end - depth, before))
            before = (*before, (len(flat), end - depth))
            flat.extend(first[depth:end])
            positions.extend(range(depth, end))
        rest = []
        for member in members:
            if len(prompts[member]) == end:
                last[member] = before[-1][0] + before[-1][1] - 1
            else:
                rest.append(member)
        for branch in _branches(prompts, rest, end):
            add(branch, end, before)

    for branch in _branches(prompts, sorted(range(len(prompts)), key=lambda index: prompts[index]), 0):
        add(branch, 0, ())

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return PromptTree(tensor(flat)[None], tensor(positions)[None], tuple(runs), tensor(last))


def _branches(prompts: Sequence[tuple[int, ...]], members: list[int], depth: int) -> list[list[int]]:
    """Sorted members, split where they differ within the next few tokens; a prompt that shares too little is alone."""
    branches: list[list[int]] = []
    for member in members:
        if branches:
            neighbour = prompts[branches[-1][0]]
            length = min(depth + _SHORTEST_RUN, len(neighbour), len(prompts[member]))
            alike = length == len(neighbour) == len(prompts[member]) or length == depth + _SHORTEST_RUN
            if alike and neighbour[depth:length] == prompts[member][depth:length]:
                branches[-1].append(member)
                continue
        branches.append([member])
    return branches


def tree_layout(tree: PromptTree) -> Layout:
    """How the attention of a tree is computed: runs with a similar number of tokens to attend to are computed together."""
    rectangles = []
    for rooted in (True, False):
        chosen = [index for index, run in enumerate(tree.runs) if bool(run.before) != rooted]
        for group in group_similar(chosen, lambda index: tree.runs[index].total, SPARE, LARGEST_RECTANGLE):
            rectangles.append(_rectangle([tree.runs[index] for index in group], tree.position_ids[0]))
    places = torch.cat([rectangle.queries.flatten()[rectangle.wanted] for rectangle in rectangles])
    order = torch.empty_like(places)
    order[places] = torch.arange(len(places), device=places.device)
    return Layout(tuple(rectangles), order, None)


def _rectangle(runs: Sequence[Run], positions: torch.Tensor) -> Rectangle:
    queries, wanted = _places([((run.start, run.length),) for run in runs], positions.device)
    keys, there = _places([(*run.before, (run.start, run.length)) for run in runs], positions.device)
    key_positions = torch.where(there, positions[keys], FAR)
    wanted = wanted.flatten().nonzero()[:, 0]
    return Rectangle(queries, keys, positions[queries], key_positions, wanted, causal=not runs[0].before)


def _places(rows: Sequence[Sequence[tuple[int, int]]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, longest) places of each row's ranges, padded with its last one; and which are not padding."""
    places = [torch.cat([torch.arange(start, start + length) for start, length in row]) for row in rows]
    longest = max(map(len, places))
    lengths = torch.tensor([len(row) for row in places])
    filled = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in places])
    return filled.to(device), (torch.arange(longest)[None] < lengths[:, None]).to(device)


def last_logits(model: Any, tree: PromptTree, takes_last: bool) -> torch.Tensor:
    """Logits after each prompt of a tree, (prompts, vocabulary); the model must have the attention of `attention.packing`.

    Args:
        model: A causal language model for which `computes_trees` holds.
        tree: The prompts.
        takes_last: Whether its forward has the argument `logits_to_keep`.
    """
    with attention.laid_out(tree_layout(tree)):
        return _logits(model, tree, takes_last)


def _logits(model: Any, tree: PromptTree, takes_last: bool) -> torch.Tensor:
    kept = {"logits_to_keep": tree.last} if takes_last else {}
    logits = model(input_ids=tree.input_ids, position_ids=tree.position_ids, use_cache=False, **kept).logits[0]
    return logits if takes_last else logits[tree.last]


@torch.no_grad()
def computes_trees(model: Any, takes_last: bool) -> bool:
    """Whether this model gives the same logits for the prompts of a tree as for each alone; tested on four short prompts.

    Models with special attention (ALiBi, position bias, soft caps, sinks), with recurrent or convolution layers, or with
    positions that they compute themselves do not.
    """
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    device = next(model.parameters()).device
    start, middle = list(range(3, 15)), list(range(20, 30))
    prompts = [
        tuple(number % vocabulary for number in ids)
        for ids in (start, [*start, *middle, 40], [*start, *middle, *range(50, 61)], [70, 71, 72, 73, 74])
    ]
    try:
        alone = torch.stack(
            [
                model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0, -1].float()
                for ids in prompts
            ]
        )
        tree = grow(prompts, device)
        layout = tree_layout(tree)
        with attention.packing(model), attention.laid_out(layout):
            together = _logits(model, tree, takes_last).float()
    except Exception:  # noqa: BLE001 (any error that a model's code raises with this attention means: no trees)
        return False
    in_bf16 = torch.is_autocast_enabled(device.type) or next(model.parameters()).dtype != torch.float32
    tolerance = AGREEMENT[torch.bfloat16 if in_bf16 else torch.float32]
    difference, largest = float((together - alone).abs().max()), float(alone.abs().max())
    return difference <= tolerance * largest and layout.asked <= layout.windows | {None}
