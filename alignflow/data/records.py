"""The tables that stages hand over: TRL's columns, in Parquet, and how they are read and written.

A conversation is a list of `{role, content}`; `prompt`, `chosen` and `rejected` are such lists, so that
every table here is what TRL calls the conversational format.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignflow.data.artifacts import refuse_damaged
from alignflow.data.errors import DataError
from alignflow.data.tools import TURN_FIELDS, from_columns, has_fields, to_columns, told

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
WEIGHTED_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int8())]))
"""As MESSAGES, with a weight of 0 at each assistant turn that is not to be trained on; null at all others."""
_FIELDS = [(name, pa.string()) for name in TURN_FIELDS]
TOOL_MESSAGES = pa.list_(pa.struct([*MESSAGES.value_type, *_FIELDS]))
WEIGHTED_TOOL_MESSAGES = pa.list_(pa.struct([*WEIGHTED_MESSAGES.value_type, *_FIELDS]))
"""As MESSAGES and WEIGHTED_MESSAGES, with tool calls (JSON), results and thinking; null where a turn has none."""

_ID = [("id", pa.string()), ("source", pa.string())]

DEMONSTRATIONS = pa.schema([*_ID, ("messages", MESSAGES)])
WEIGHTED_DEMONSTRATIONS = pa.schema([*_ID, ("messages", WEIGHTED_MESSAGES)])
PROMPTS = pa.schema(
    [*_ID, ("prompt", MESSAGES), ("instructions", pa.string())]  # instructions: JSON of verifiable checks, or null
)
COMPLETIONS = pa.schema(
    [
        *_ID,
        ("prompt", MESSAGES),
        ("completions", pa.list_(pa.string())),
        ("ended", pa.list_(pa.bool_())),  # False: cut at the token limit, so there is no EOS
        ("tokens", pa.list_(pa.int32())),  # length of each completion, EOS included
    ]
)
PREFERENCES = pa.schema(
    [
        *_ID,
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("chosen_ended", pa.bool_()),
        ("rejected_ended", pa.bool_()),
        ("soft_label", pa.float64()),  # P(chosen is better) by the labeller, or null
        ("margin", pa.float64()),  # score difference, or null
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
        ("judge", pa.string()),  # who labelled: a judge's name, human or human:ANNOTATOR; or null
        ("principle", pa.string()),  # what the judge went by, or null
        ("rationale", pa.string()),  # why, in the judge's own words, or null
        ("weight", pa.float64()),  # what the row counts in a loss, above 0; null: 1
        ("confidence", pa.float64()),  # how sure the labeller is that chosen is better, 0 to 1, or null
        ("p_given", pa.float64()),  # P(chosen is better) as asked with chosen first, or null
        ("p_swapped", pa.float64()),  # P(chosen is better) as asked with rejected first, or null
    ]
)
LABELLING = ("judge", "principle", "rationale", "weight", "confidence", "p_given", "p_swapped")
"""Columns of preferences that say how a row came by its label; tables of earlier versions lack them."""
RANKINGS = pa.schema(
    [
        *_ID,
        ("prompt", MESSAGES),
        ("completions", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),  # higher is better
        ("ended", pa.list_(pa.bool_())),  # null: all of them end by themselves
    ]
)
UNPAIRED = pa.schema(
    [
        *_ID,
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        ("label", pa.bool_()),  # whether the answer is wanted
        ("ended", pa.bool_()),  # null: it ends by itself
    ]
)
REFERENCES = pa.schema(
    [
        ("id", pa.string()),  # of the row that has the answer; its answers follow each other as the trainer reads them
        ("tokens", pa.int32()),
        ("logps", pa.float32()),  # sum over the answer's tokens, nats
        ("token_logps", pa.list_(pa.float32())),  # of each token, or null
        ("mismatched_logps", pa.float32()),  # sum over the tokens of another row's answer to this row's prompt, or null
    ]
)
TEXTS = pa.schema([*_ID, ("text", pa.string())])

SCHEMAS: dict[str, pa.Schema] = {
    "demonstrations": DEMONSTRATIONS,
    "prompts": PROMPTS,
    "completions": COMPLETIONS,
    "preferences": PREFERENCES,
    "rankings": RANKINGS,
    "unpaired": UNPAIRED,
    "texts": TEXTS,
    "references": REFERENCES,
}


GROUP_ROWS, GROUP_BYTES = 65_536, 1 << 26
"""A group of rows of a Parquet file ends with so many rows, or with the piece of PIECE rows that makes it so large: it is written from memory."""
PIECE = 256


MORE_COLUMNS: Mapping[str, tuple[str, ...]] = {"prompts": ("reference", "verifier"), "completions": ("reference",)}
"""Columns of text that a table has only where a row has something in them: a reference answer, and the name of the check for answers."""


def schema_for(kind: str, *, weighted: bool = False, with_tools: bool = False, more: Iterable[str] = ()) -> pa.Schema:
    """The schema of a table of SCHEMAS, with places for weights of turns, for tools, and for MORE_COLUMNS, only where a row has some.

    Tools and their calls are JSON: a column of structs has one type, and would give each tool the parameters of all others as nulls.
    """
    schema = WEIGHTED_DEMONSTRATIONS if kind == "demonstrations" and weighted else SCHEMAS[kind]
    for name in more:
        schema = schema.append(pa.field(name, pa.string()))
    if not with_tools:
        return schema
    wider = {MESSAGES: TOOL_MESSAGES, WEIGHTED_MESSAGES: WEIGHTED_TOOL_MESSAGES}
    fields = [pa.field(field.name, wider.get(field.type, field.type)) for field in schema]
    return pa.schema([*fields, pa.field("tools", pa.string())])


def write_table(
    rows: Iterable[dict[str, Any]],
    kind: str,
    path: Path,
    *,
    weighted: bool | None = None,
    with_tools: bool | None = None,
    more: Sequence[str] | None = None,
) -> int:
    """Write `rows` as the table `kind` of SCHEMAS to a Parquet file; return their number.

    Columns that a row lacks become null. The bytes depend on the rows alone: a table has places for weights of turns, or for tools, only
    where a row has some.

    Args:
        rows: Taken one after the other, where `weighted` and `with_tools` are given: no more than a group of them is held.
        kind: A name of SCHEMAS.
        path: The file.
        weighted: Whether any row has a weight at a turn; None to look.
        with_tools: Whether any row has tools, calls or thinking; None to look.
        more: Those of MORE_COLUMNS that any row has; None to look where all rows are held anyway.
    """
    if weighted is None or with_tools is None:
        rows = list(rows)
        weighted, with_tools = kind == "demonstrations" and any(map(has_weights, rows)), has_fields(rows)
        more = more_columns(kind, rows) if more is None else more
    schema = schema_for(kind, weighted=weighted, with_tools=with_tools, more=more or ())
    rows = map(to_columns, rows) if with_tools else rows
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for group in _groups(iter(rows), schema):
            file.write_table(group)
            written += group.num_rows
        if not written:
            file.write_table(schema.empty_table())
    return written


def _groups(rows: Iterator[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    pieces: list[pa.Table] = []
    size = 0
    while listed := list(islice(rows, PIECE)):
        pieces.append(pa.Table.from_pylist(listed, schema=schema))
        size += pieces[-1].nbytes
        if len(pieces) >= GROUP_ROWS // PIECE or size >= GROUP_BYTES:
            yield pa.concat_tables(pieces).combine_chunks()
            pieces, size = [], 0
    if pieces:
        yield pa.concat_tables(pieces).combine_chunks()


def more_columns(kind: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those of the kind's MORE_COLUMNS that any row has, in their order."""
    names, found = MORE_COLUMNS.get(kind, ()), set()
    for row in rows if names else ():
        found |= {name for name in names if row.get(name)}
        if len(found) == len(names):
            break
    return [name for name in names if name in found]


def has_weights(row: Mapping[str, Any]) -> bool:
    """Whether a turn of a demonstration has a weight."""
    return any(turn.get("weight") is not None for turn in row["messages"])


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as dictionaries; see `table_batches`."""
    return [row for batch in table_batches(path) for row in batch]


def table_batches(path: Path, size: int = 65536) -> Iterator[list[dict[str, Any]]]:
    """The rows of a Parquet file as dictionaries, at most `size` at a time; a turn of a conversation has `weight` only where it is 0, and
    tools as in tools.py.

    Raises:
        DamagedArtifactError: it is not one, and lies in an artifact of the store.
        DataError: it is not one, and is the user's.
    """
    try:
        with pq.ParquetFile(
            path
        ) as file:  # pq.read_table would import pandas and data sets first: half a second of every stage
            types = [field.type for field in file.schema_arrow]
            with_tools = TOOL_MESSAGES in types or WEIGHTED_TOOL_MESSAGES in types
            weighted = (
                file.schema_arrow.names == WEIGHTED_DEMONSTRATIONS.names
                and file.schema_arrow.field("messages").type == WEIGHTED_MESSAGES
            )
            for batch in file.iter_batches(size):
                rows = batch.to_pylist()
                if with_tools:
                    yield [from_columns(row) for row in rows]
                else:
                    yield (
                        [{**row, "messages": [_without_null_weight(turn) for turn in row["messages"]]} for row in rows]
                        if weighted
                        else rows
                    )
    except (OSError, pa.ArrowException) as error:
        refuse_damaged(path, f"{path.name} is not a readable Parquet table ({' '.join(str(error).split())[:200]})")
        raise DataError(f"not a readable Parquet table ({error})", where=str(path)) from error


def _without_null_weight(turn: dict[str, Any]) -> dict[str, Any]:
    return turn if turn["weight"] is not None else {name: value for name, value in turn.items() if name != "weight"}


_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Characters that nobody sees: soft hyphens, zero-width spaces and joiners, marks of the direction of writing, and the byte order mark."""


def as_seen(text: str) -> str:
    """A text with composed characters (NFC) and without those that are not seen: two texts that look the same are the same in this form."""
    return text if text.isascii() else unicodedata.normalize("NFC", _UNSEEN.sub("", text))


def normalise_text(text: str) -> str:
    """Lower case, single spaces, and `as_seen`: the form by which two prompts count as the same.

    It is for matching only. Characters that look alike but are others (NFKC) stay apart: a prompt with 5² is not one with 52.
    """
    return " ".join(as_seen(text).lower().split())


def prompt_text(messages: Sequence[dict[str, str]]) -> str:
    """All turns of a prompt as one text, for hashing and matching only."""
    return "\n".join(f"{message['role']}: {told(message)}" for message in messages)


def prompt_digest(messages: Sequence[dict[str, str]]) -> str:
    """SHA-256 of the normalised prompt: decides the split, so that no prompt stands on both sides."""
    return hashlib.sha256(normalise_text(prompt_text(messages)).encode()).hexdigest()


def pair_key(prompt: Sequence[dict[str, str]], first: str, second: str) -> tuple[str, bool]:
    """A name for a prompt with two answers, the same in either order; and whether the order is turned. Texts count as `normalise_text` has them."""
    one, other = normalise_text(first), normalise_text(second)
    return "\n".join((prompt_digest(prompt), *sorted((one, other)))), one > other


_SORTED_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


def row_id(*parts: Any) -> str:
    """A short content id of a row (96 bits), stable across runs and machines."""
    return hashlib.sha256(_SORTED_JSON.encode(parts).encode()).hexdigest()[:24]


def up_to_question(messages: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    """A prompt up to its last user turn, without the calls of tools and the results after it: they ask nothing of their own."""
    for place in range(len(messages), 0, -1):
        if messages[place - 1]["role"] == "user":
            return messages[:place]
    return messages[:]


def is_held_out(messages: Sequence[dict[str, str]], fraction: float) -> bool:
    """Whether a prompt belongs to the held-out side: a fixed function of its normalised text up to its last user turn."""
    return int(prompt_digest(up_to_question(messages))[:12], 16) / 16**12 < fraction


def user(content: str) -> list[dict[str, str]]:
    """A prompt of one user turn."""
    return [{"role": "user", "content": content}]


def assistant(content: str) -> list[dict[str, str]]:
    """A completion of one assistant turn."""
    return [{"role": "assistant", "content": content}]
