"""Parses the sources of one kind into rows and drops what cannot be used, each row counted under one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.byte_bounds import longest_bytes
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.near_duplicates import near_duplicates
from alignflow.data.records import normalise_text, prompt_digest, prompt_text, row_id
from alignflow.data.rendering import encode_completion, encode_conversation, encode_prompt
from alignflow.data.sources.base import RowError
from alignflow.data.sources.detect import LOOKED_AT, detect
from alignflow.data.sources.reading import BrokenLine, read_rows
from alignflow.data.sources.soundness import check_row

Row = dict[str, Any]
LISTED = 5


@dataclass
class Kept:
    """The rows of one kind, and what became of the others.

    Attributes:
        rows: Rows of the table, with id and source.
        read: Lines read in all.
        dropped: Reason -> number.
        formats: Source -> its format, as named or detected.
    """

    rows: list[Row] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    formats: dict[str, str] = field(default_factory=dict)


def parse_sources(sources: Sequence[SourceConfig], kind: str, config: PrepareConfig) -> Kept:
    """All usable rows of `sources` as the table `kind`, in their order.

    Raises:
        DataError: a source cannot be read, has more broken lines than `max_broken_fraction`, or not one usable row.
    """
    kept = Kept()
    for source in sources:
        before = len(kept.rows)
        _parse_source(source, kind, config, kept)
        if len(kept.rows) == before:
            reasons = ", ".join(f"{reason} {count}" for reason, count in (+kept.dropped).most_common(4))
            raise DataError(
                f"not one row can be used as {kind} ({reasons or 'no rows'})", where=source.path,
                do=f"it was read as {kept.formats[source_name(source)]}; `alignflow formats` says what each format can become",
            )  # fmt: skip
    return kept


def _parse_source(source: SourceConfig, kind: str, config: PrepareConfig, kept: Kept) -> None:
    lines = list(read_rows(source))
    broken = [line for line in lines if isinstance(line, BrokenLine)]
    if not lines:
        raise DataError("no rows in it", where=source.path, do="check where it came from")
    if len(broken) > config.max_broken_fraction * len(lines):
        listed = "; ".join(f"line {line.number}: {line.reason}" for line in broken[:LISTED])
        raise DataError(
            f"{len(broken)} of {len(lines)} lines are broken ({listed}{'; ...' if len(broken) > LISTED else ''})", where=source.path,
            do="repair the file, or raise data.max_broken_fraction",
        )  # fmt: skip
    kept.dropped.update(line.reason for line in broken)
    raw = [line for line in lines if not isinstance(line, BrokenLine)]
    name = detect(raw[:LOOKED_AT], source.path) if source.format == "auto" else source.format
    kept.formats[source_name(source)] = name
    kept.read += len(lines)
    parse = catalogue.FORMATS[name].resolve()
    rows: list[Row] = []
    for row in raw:
        try:
            parsed = parse(row, kind)
            for found in parsed:
                check_row(found)
        except RowError as error:
            kept.dropped[error.reason] += 1
            continue
        except (
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
            ArithmeticError,
            RecursionError,
        ):  # data of any shape may be under a known column's name
            kept.dropped["malformed"] += 1
            continue
        rows += [{"id": row_id(kind, found), "source": source_name(source), **found} for found in parsed]
    kept.rows += choose(rows, source, kept.dropped)


def source_name(source: SourceConfig) -> str:
    """A source's name without its folder, for tables that go from machine to machine."""
    return Path(source.path).name


def choose(rows: list[Row], source: SourceConfig, dropped: Counter[str]) -> list[Row]:
    """The share and number of rows that a source's weight and cap leave, chosen by the rows' hash: new rows move few."""
    chosen = [row for row in rows if int(row["id"][:12], 16) < source.weight * 16**12]
    dropped["over_weight"] += len(rows) - len(chosen)
    if source.max_rows is not None and len(chosen) > source.max_rows:
        limit = sorted(row["id"] for row in chosen)[source.max_rows - 1]
        dropped["over_max_rows"] += len(chosen) - source.max_rows
        chosen = [row for row in chosen if row["id"] <= limit][: source.max_rows]
    return chosen


def drop(kept: Kept, reason: str, bad: Callable[[Row], bool]) -> None:
    """Drop the rows that `bad` names, and count them."""
    rows = [row for row in kept.rows if not bad(row)]
    kept.dropped[reason] += len(kept.rows) - len(rows)
    kept.rows = rows


def drop_duplicates(kept: Kept, threshold: float) -> None:
    """Drop rows that are equal, in normalised text, to an earlier one, and then those that nearly are."""
    seen: set[str] = set()

    def repeated(row: Row) -> bool:
        text = normalise_text(row_text(row))
        known = text in seen
        seen.add(text)
        return known

    drop(kept, "duplicate", repeated)
    flags = iter(near_duplicates([row_text(row) for row in kept.rows], threshold))
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

    Only rows go that `drop_over_long` would drop as well: a text with more bytes than `max_length` tokens can have. A chat
    template that trims (`| trim`) changes nothing: texts are encoded beside the template, with the blanks at their ends.
    """
    bound = longest_bytes(tokenizer, max_length)
    if bound is not None:
        drop(kept, "over_long", lambda row: "text" not in row and any(_longer(text, bound) for text in _texts(row)))


def _texts(row: Row) -> list[str]:
    return [message["content"] for message in row["messages" if "messages" in row else "prompt"]] + answer_texts(row)


def _longer(text: str, size: int) -> bool:
    """Whether a text has more bytes than `size` in UTF-8, told without encoding a short one: a character has 4 at most."""
    return len(text) > size or (4 * len(text) > size and len(text.encode("utf-8", "surrogatepass")) > size)


def token_lengths(row: Row, tokenizer: Any) -> dict[str, int]:
    """Tokens of a row's prompt, and of the prompt with its longest answer."""
    if "text" in row:
        return {"prompt": 0, "total": 0}  # general text is cut where it is scored, so none is too long
    if "messages" in row:
        ids, mask = encode_conversation(tokenizer, row["messages"])
        return {"prompt": mask.index(True), "total": len(ids)}
    prompt = len(encode_prompt(tokenizer, row["prompt"]))
    answers = [len(encode_completion(tokenizer, text, ended=True)) for text in answer_texts(row)]
    return {"prompt": prompt, "total": prompt + max(answers, default=0)}


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


def drop_contaminated(kept: Kept, evaluation: Sequence[Row], ngram: int) -> None:
    """Drop training rows whose prompt is an evaluation prompt, or shares `ngram` words in a row with one."""
    digests = {prompt_digest(row["prompt"]) for row in evaluation}
    grams = {gram for row in evaluation for gram in word_ngrams(prompt_text(row["prompt"][-1:]), ngram)}

    def seen(row: Row) -> bool:
        prompt = prompt_messages(row)
        return prompt_digest(prompt) in digests or any(gram in grams for gram in word_ngrams(prompt_text(prompt[-1:]), ngram))

    drop(kept, "contaminated", seen)


def word_ngrams(text: str, size: int) -> list[str]:
    """All runs of `size` lower-case words; none for size 0."""
    words = normalise_text(text).split()
    return [" ".join(words[start : start + size]) for start in range(len(words) - size + 1)] if size else []
