"""What the filters need to know of a row: lengths in tokens, digests, shingles. Each chunk is measured by itself, in whatever process."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from alignflow.data.byte_bounds import longest_bytes
from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.near_duplicates import band_keys, shingles
from alignflow.data.records import has_weights, is_held_out, normalise_text, prompt_digest, up_to_question
from alignflow.data.rendering import load_tokenizer
from alignflow.data.row_lengths import Lengths, encoded_lengths
from alignflow.data.row_texts import (
    Row,
    asked_texts,
    is_far_too_long,
    prompt_messages,
    questions,
    row_text,
    text_in_any_order,
    without_system,
    word_ngrams,
)
from alignflow.data.similar_sets import Sets
from alignflow.data.spool import read_rows, write_rows
from alignflow.data.template_rows import fit_to_template
from alignflow.data.tool_forms import LEFT_OUT, OTHER
from alignflow.data.tools import has_fields

FATES = ("", "over_long", *LEFT_OUT)
"""What may be known of a row before all rows are: nothing against it, over-long by its bytes alone, or why the chat template does not take it."""
FINE, FAR_TOO_LONG, REFUSED = 0, 1, FATES.index(OTHER)
OWN, WHOLE, KEYS, HITS = ".own", ".whole", ".keys", ".hits"
"""Suffixes of the files beside a chunk: its shingles, those with the system turns, numbers of bands, and shared n-grams."""


@dataclass(frozen=True)
class Measuring:
    """How a table is measured.

    Attributes:
        kind: The table, a name of records.SCHEMAS.
        config: Limits.
        tokenizer: Directory of the tokenizer.
        evaluation: A file of `write_evaluation`: the prompts that no row may share; None where there are none.
        encoded: Whether rows are encoded, and held to what the chat template takes.
        near: Whether near duplicates are sought.
    """

    kind: str
    config: PrepareConfig
    tokenizer: Path
    evaluation: Path | None = None
    encoded: bool = True
    near: bool = True


@dataclass
class Measured:
    """A chunk of rows, and what is known of each of them.

    Attributes:
        path: File of the rows.
        fate: Place in FATES; of what is not FINE nothing else is known [rows], uint8.
        text: Digest of all text in its normal form, whatever the order of the answers [rows, 2], uint64.
        meant: What is said of the text: its label, or a number for its order or the weights of its turns [rows], uint64; 0 where nothing is.
        held_out: Whether the prompt belongs to the held-out side [rows], booleans.
        lengths: In tokens.
        controls: Whether a control token stands in the text [rows], booleans.
        weighted: Whether a turn has a weight [rows], booleans.
        with_tools: Whether the row has tools, calls or thinking [rows], booleans.
        known: Whether the conversation up to any of its user turns is a prompt for evaluation [rows], booleans.
        sources: Place of the row's source in `labels` [rows], int32.
        labels: Names of sources.
        shingles: Number of shingles [rows], int64.
        whole: Number of shingles with the system turn [rows], int64; None where no row has one.
        hits: Number of n-grams that what it asks shares with the evaluation prompts [rows], int64; None where no row shares one.
        merged: System turns that were merged into a user's turn.
    """

    path: Path
    fate: np.ndarray
    text: np.ndarray
    meant: np.ndarray
    held_out: np.ndarray
    lengths: Lengths
    controls: np.ndarray
    weighted: np.ndarray
    with_tools: np.ndarray
    known: np.ndarray
    sources: np.ndarray
    labels: list[str]
    shingles: np.ndarray
    whole: np.ndarray | None
    hits: np.ndarray | None
    merged: int


@lru_cache(maxsize=1)
def tokenizer_of(path: Path) -> Any:
    """The tokenizer of this process; `prepare` empties the cache when it begins."""
    return load_tokenizer(path)


@lru_cache(maxsize=1)
def _controls(path: Path) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(token) for token in tokenizer_of(path).all_special_tokens if token) or r"(?!)")


@lru_cache(maxsize=1)
def _evaluation(path: Path | None) -> tuple[frozenset[str], dict[str, int]]:
    if path is None:
        return frozenset(), {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return frozenset(found["digests"]), {gram: number for number, gram in enumerate(found["grams"])}


@lru_cache(maxsize=1)
def _longest_bytes(tokenizer: Path, tokens: int) -> int | None:
    return longest_bytes(tokenizer_of(tokenizer), tokens)


def forget() -> None:
    """Empty what this process remembers of earlier tables."""
    for remembered in (tokenizer_of, _controls, _evaluation, _longest_bytes):
        remembered.cache_clear()


def write_evaluation(rows: Any, size: int, path: Path) -> int:
    """Write digests of the prompts for evaluation, and the runs of `size` words of what they ask; returns the number of runs.

    Both are of the last user turn: calls of tools and results that a prompt ends with make no other question of it.
    """
    digests: set[str] = set()
    grams: set[str] = set()
    for row in rows:
        digests.add(prompt_digest(up_to_question(row["prompt"])))
        grams.update(gram for text in asked_texts(row["prompt"], earlier=False) for gram in word_ngrams(text, size))
    path.write_text(json.dumps({"digests": sorted(digests), "grams": sorted(grams)}), encoding="utf-8")
    return len(grams)


def measure_file(path: Path, chosen: np.ndarray | None, measuring: Measuring) -> Measured:
    """Measure the chosen rows of a chunk; the file then has these rows alone, as they are after `system: merge`."""
    rows = list(read_rows(path, chosen))
    tokenizer = tokenizer_of(measuring.tokenizer)
    fate = np.zeros(len(rows), dtype=np.uint8)
    lengths, merged = Lengths.none(len(rows)), 0
    if measuring.encoded:
        bound = _longest_bytes(measuring.tokenizer, measuring.config.max_length)
        fate[:] = [FAR_TOO_LONG if bound is not None and is_far_too_long(row, bound) else FINE for row in rows]
        near = np.nonzero(fate == FINE)[0]
        reasons, merged = fit_to_template([rows[index] for index in near], measuring.kind, tokenizer, measuring.config)
        fate[near] = [FATES.index(reason) for reason in reasons]
        near = np.nonzero(fate == FINE)[0]
        lengths, written = encoded_lengths(rows, near.tolist(), tokenizer)
        fate[(fate == FINE) & ~written] = REFUSED
    if chosen is not None or merged:
        write_rows(path, rows)
    return _measured(path, rows, fate, lengths, merged, measuring)


def _measured(
    path: Path, rows: list[Row], fate: np.ndarray, lengths: Lengths, merged: int, measuring: Measuring
) -> Measured:
    fine = (fate == FINE).tolist()
    texts = [row_text(row) if good else "" for row, good in zip(rows, fine, strict=True)]
    normal = [normalise_text(text) for text in texts]
    digests = b"".join(
        blake2b((text_in_any_order(row, text) if good else "").encode(), digest_size=16).digest()
        for row, text, good in zip(rows, normal, fine, strict=True)
    )
    counts, whole = np.zeros(len(rows), dtype=np.int64), None
    if measuring.near:
        counts, whole = _write_shingles(path, rows, fine, normal)
    prompts = [prompt_messages(row) if good and "text" not in row else () for row, good in zip(rows, fine, strict=True)]
    digests_of_prompts, grams = _evaluation(measuring.evaluation)
    labels = sorted({row["source"] for row in rows})
    places = {label: place for place, label in enumerate(labels)}
    controls = _controls(measuring.tokenizer)
    return Measured(
        path=path,
        fate=fate,
        text=np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2),
        lengths=lengths,
        merged=merged,
        meant=np.fromiter(
            (_meant(row) if good else 0 for row, good in zip(rows, fine, strict=True)), dtype=np.uint64, count=len(rows)
        ),
        held_out=_flags(bool(prompt) and is_held_out(prompt, measuring.config.heldout_fraction) for prompt in prompts),
        controls=_flags(controls.search(text) is not None for text in texts),
        weighted=_flags(measuring.kind == "demonstrations" and has_weights(row) for row in rows),
        with_tools=_flags(has_fields([row]) for row in rows),
        known=_flags(
            bool(digests_of_prompts) and bool(prompt) and _is_known(prompt, digests_of_prompts) for prompt in prompts
        ),
        sources=np.array([places[row["source"]] for row in rows], dtype=np.int32),
        labels=labels,
        shingles=counts,
        whole=whole,
        hits=_write_hits(path, prompts, grams, measuring.config.decontaminate_ngram) if grams else None,
    )


def _meant(row: Row) -> int:
    """A number for the label of a row, the order of its answers, or the turns of it that are not trained on: two rows of one text may differ in these."""
    silent = [place for place, turn in enumerate(row.get("messages") or ()) if turn.get("weight") is not None]
    if silent:
        return _number(silent)
    if "scores" in row:  # of a ranking, which answers are better than which, in whatever order they stand
        found = sorted(set(row["scores"]))
        ranked = sorted(zip(map(normalise_text, row["completions"]), row["scores"], strict=True))
        return _number([found.index(score) for _, score in ranked])
    if "chosen" in row and "rejected" in row:
        one, other = (row[side][-1]["content"] for side in ("chosen", "rejected"))
        return 1 + ((normalise_text(one), one) > (normalise_text(other), other))
    return 1 + bool(row["label"]) if "label" in row else 0


def _number(places: list[int]) -> int:
    return int.from_bytes(blake2b(json.dumps(places).encode(), digest_size=8).digest(), "little")


def _is_known(prompt: Any, digests: frozenset[str]) -> bool:
    return any(prompt_digest(question) in digests for question in questions(prompt))


def _flags(values: Any) -> np.ndarray:
    return np.fromiter(values, dtype=bool)


def _write_shingles(
    path: Path, rows: list[Row], fine: list[bool], normal: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Write the rows' shingles without and with their system turns; returns the numbers of both, None for the second where no row has one."""
    bare = [without_system(row) if good else None for row, good in zip(rows, fine, strict=True)]
    own, counts = shingles(
        text if other is None else normalise_text(other) for text, other in zip(normal, bare, strict=True)
    )
    own.tofile(path.with_suffix(OWN))
    band_keys(own, counts).tofile(path.with_suffix(KEYS))
    instructed = [number for number, text in enumerate(bare) if text is not None]
    if not instructed:
        return counts, None
    alone, together = Sets.of(own, counts), Sets.of(*shingles(normal[number] for number in instructed))
    parts = [alone[number] for number in range(len(rows))]
    for place, number in enumerate(instructed):
        parts[number] = together[place]
    np.concatenate(parts).tofile(path.with_suffix(WHOLE))
    return counts, np.array([len(part) for part in parts], dtype=np.int64)


def _write_hits(path: Path, prompts: Sequence[Any], grams: dict[str, int], size: int) -> np.ndarray | None:
    """Write which n-grams of the evaluation prompts the user turns of each prompt have, and the results after them, each once; returns their numbers."""
    found = [
        {grams[gram] for text in asked_texts(prompt, earlier=True) for gram in word_ngrams(text, size) if gram in grams}
        for prompt in prompts
    ]
    counts = np.array([len(each) for each in found], dtype=np.int64)
    if not counts.any():
        return None
    np.array([number for each in found for number in sorted(each)], dtype=np.int32).tofile(path.with_suffix(HITS))
    return counts
