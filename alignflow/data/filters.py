"""Drops rows that should not be used, each counted under one reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alignflow.data.byte_bounds import longest_bytes
from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.near_duplicates import near_duplicates
from alignflow.data.parsing import Kept, Row
from alignflow.data.records import normalise_text, prompt_digest, prompt_text
from alignflow.data.rendering import encode_prompt, encode_turn, encode_turns
from alignflow.data.tools import without_tools


def drop(kept: Kept, reason: str, bad: Callable[[Row], bool]) -> None:
    """Drop the rows that `bad` names, and count them, with the first as the example."""
    rows = []
    for row in kept.rows:
        if bad(row):
            kept.count(reason, "" if reason in kept.examples else row_text(row))
        else:
            rows.append(row)
    kept.rows = rows


def drop_duplicates(kept: Kept, threshold: float) -> None:
    """Drop rows that are equal, in normalised text, to an earlier one, and then those that nearly are, system turn or not."""
    seen: set[str] = set()

    def repeated(row: Row) -> bool:
        text = normalise_text(row_text(row))
        known = text in seen
        seen.add(text)
        return known

    drop(kept, "duplicate", repeated)
    flags = iter(near_duplicates([row_text(row) for row in kept.rows], threshold, [_without_system(row) for row in kept.rows]))
    drop(kept, "near_duplicate", lambda row: next(flags))


def drop_over_long(kept: Kept, tokenizer: Any, config: PrepareConfig) -> list[dict[str, int]]:
    """Drop rows whose prompt or whole is too long; returns the lengths, in tokens, of those that stay."""
    lengths: list[dict[str, int]] = []

    def too_long(row: Row) -> bool:
        found = token_lengths(row, tokenizer)
        over = found["total"] > config.max_length or found["prompt"] > config.max_prompt_length and not config.truncate
        if not over:
            lengths.append(found)
        return over

    drop(kept, "over_long", too_long)
    return lengths


def drop_far_too_long(kept: Kept, tokenizer: Any, max_length: int) -> None:
    """Drop the rows that are over-long by their bytes alone, before anything is done that takes time and memory for them.

    Only rows go that `drop_over_long` would drop as well: a text with more bytes than `max_length` tokens can have, the blanks at
    its ends and an answer's thinking not counted, since a chat template may leave both out.
    """
    bound = longest_bytes(tokenizer, max_length)
    if bound is not None:
        drop(kept, "over_long", lambda row: "text" not in row and any(_longer(text.rpartition("</think>")[2].strip(), bound) for text in _texts(row)))


def _texts(row: Row) -> list[str]:
    return [message["content"] for message in row["messages" if "messages" in row else "prompt"]] + answer_texts(row)


def _longer(text: str, size: int) -> bool:
    """Whether a text has more bytes than `size` in UTF-8, told without encoding a short one: a character has 4 at most."""
    return len(text) > size or (4 * len(text) > size and len(text.encode("utf-8", "surrogatepass")) > size)


def token_lengths(row: Row, tokenizer: Any) -> dict[str, int]:
    """Tokens of a row's prompt, and of the prompt with its longest answer; and 1 where a token reaches across the border before an answer."""
    if "text" in row:
        return {"prompt": 0, "total": 0, "merged": 0}  # general text is cut where it is scored, so none is too long
    if "messages" in row:
        found = encode_turns(tokenizer, row["messages"])
        return {"prompt": found.supervised.index(True), "total": len(found.ids), "merged": int(found.merged)}
    prompt = len(encode_prompt(tokenizer, row["prompt"]))
    turns = [encode_turn(tokenizer, row["prompt"], text, ended=True) for text in answer_texts(row)]
    longest = max((len(turn.prompt_ids) + len(turn.completion_ids) for turn in turns), default=prompt)
    return {"prompt": prompt, "total": longest, "merged": int(any(turn.merged for turn in turns))}


def answer_texts(row: Row) -> list[str]:
    """All answers of a row, as texts."""
    sides = [row[side] for side in ("chosen", "rejected", "completion") if side in row]
    return [turns[-1]["content"] for turns in sides] + list(row.get("completions", ()))


def prompt_messages(row: Row) -> list[dict[str, str]]:
    """The conversation that a row's answer, or answers, reply to."""
    return row["messages"][:-1] if "messages" in row else row["prompt"]


def row_text(row: Row) -> str:
    """All text of a row."""
    if "text" in row:
        return row["text"]
    if "messages" in row:
        return prompt_text(row["messages"])
    return "\n".join([prompt_text(row["prompt"]), *answer_texts(row)])


def _without_system(row: Row) -> str:
    """All text of a row but its system turn and its tools."""
    name = next((name for name in ("messages", "prompt") if name in row), "")
    turns = without_tools([turn for turn in row.get(name) or () if turn["role"] != "system"])
    return row_text({**row, name: turns} if name else row)


def drop_contaminated(kept: Kept, evaluation: Sequence[Row], ngram: int) -> None:
    """Drop training rows whose prompt is an evaluation prompt, or shares `ngram` words in a row with one."""
    digests = {prompt_digest(row["prompt"]) for row in evaluation}
    grams = {gram for row in evaluation for gram in word_ngrams(prompt_text(without_tools(row["prompt"][-1:])), ngram)}

    def seen(row: Row) -> bool:
        prompt = prompt_messages(row)
        return prompt_digest(prompt) in digests or any(gram in grams for gram in word_ngrams(prompt_text(without_tools(prompt[-1:])), ngram))

    drop(kept, "contaminated", seen)


def word_ngrams(text: str, size: int) -> list[str]:
    """All runs of `size` lower-case words; none for size 0."""
    words = normalise_text(text).split()
    return [" ".join(words[start : start + size]) for start in range(len(words) - size + 1)] if size else []
