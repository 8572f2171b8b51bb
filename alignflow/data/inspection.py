"""What a source of data, or a table of an artifact, becomes: formats, columns, dropped rows, and rows as the tokenizer writes them. No torch."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.artifacts import verify_file
from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.column_uses import Uses, column_uses
from alignflow.data.configs.explaining import suggest
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.dropped import ASKED_FOR, OTHER_SPLIT
from alignflow.data.errors import DataError, ModelError, UserError, quoted
from alignflow.data.parsing import Kept, Row, parse_sources
from alignflow.data.paths import is_there
from alignflow.data.printable import printable
from alignflow.data.records import SCHEMAS, read_table
from alignflow.data.rendering import encode_conversation, encode_prompt, encode_text, encode_turn
from alignflow.data.row_lengths import encoded_lengths
from alignflow.data.row_texts import row_text
from alignflow.data.sources.base import BrokenLine
from alignflow.data.sources.columns import renamed
from alignflow.data.sources.detect import kinds_of
from alignflow.data.sources.files import is_pattern
from alignflow.data.sources.reading import chosen_files, read_rows
from alignflow.data.sources.splits import listed
from alignflow.data.spool import SpooledRows

KINDS = tuple(kind for kind in SCHEMAS if any(kind in row.kinds for row in catalogue.FORMATS.values()))
TABLES = ("demonstrations", "preferences", "unpaired", "rankings", "completions", "prompts", "evaluation", "general")
"""Tables of artifacts, in the order in which one is chosen where none is named."""
SIDES = ("train", "heldout")
WARNED_SHARE = 0.1
_SEARCHED = 500
"""Rows at the start of a source in which some are sought that can be used."""


@dataclass
class Inspection:
    """What was found.

    Attributes:
        kind: The table that the rows became.
        kinds: All tables that they can become, or that the artifact has.
        format: As named or detected; empty where none was found.
        counted: The rows that were kept, the number that was read, and what was dropped, with examples.
        uses: What became of the columns of the file.
        warnings: One line each.
        error: Why nothing can be used, or why a run would stop.
        left_out: File of a folder that is not read -> why.
    """

    kind: str
    kinds: list[str] = field(default_factory=list)
    format: str = ""
    counted: Kept = field(default_factory=Kept)
    uses: Uses = field(default_factory=Uses)
    warnings: list[str] = field(default_factory=list)
    error: DataError | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number, the most first; reasons that dropped nothing are left out."""
        return dict((+self.counted.dropped).most_common())

    @property
    def unused_line(self) -> str:
        """The columns that are not used."""
        return f"{', '.join(self.uses.unused)}: not used"

    @property
    def error_line(self) -> str:
        """The error in one line; empty where there is none."""
        return "" if self.error is None else " ".join(str(self.error).split())


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids [tokens], and which of them are supervised [tokens]."""

    ids: list[int]
    supervised: list[bool]


def inspect_source(source: SourceConfig, kind: str = "") -> Inspection:
    """Parse a source as the table `kind`, or as the first that its rows can become, as a run would parse it.

    A source that cannot be used makes no error but one in the result: what was counted until then is there as well.

    Raises:
        UserError: there is no such kind or format.
    """
    if kind and kind not in KINDS:
        raise UserError(f"unknown kind {quoted(kind)}", where="--as", do=suggest(kind, KINDS))
    if source.format != "auto":
        catalogue.look_up(catalogue.FORMATS, source.format, "--format")
    found = Inspection(kind)
    try:
        found.kinds = kinds_of(source)
    except DataError as error:
        found.error = error
    found.kind = kind or (found.kinds or KINDS)[0]
    with contextlib.suppress(DataError):
        found.left_out = chosen_files(source).left_out
    if found.error is None or _is_here(source):  # the Hub is not asked twice for what it does not have
        found.error = _parse(source, found)
    found.format = ", ".join(found.counted.formats.values())
    if found.format:
        found.uses = _uses(source, found)
    found.warnings = _warnings(found)
    return found


def _is_here(source: SourceConfig) -> bool:
    return is_pattern(source.path) or is_there(Path(source.path))


def _parse(source: SourceConfig, found: Inspection) -> DataError | None:
    """Parse as a run does and return why a run would stop, with all that can be counted in `found.counted` even so."""
    try:
        parse_sources([source], found.kind, PrepareConfig(), found.counted)
    except DataError as error:
        if (
            found.counted.read and not found.counted.formats
        ):  # too many lines are broken, or no format fits; the first leaves some to look at
            found.counted = Kept()
            with contextlib.suppress(DataError):
                parse_sources([source], found.kind, PrepareConfig(max_broken_fraction=1.0), found.counted)
        return error
    return None


def _uses(source: SourceConfig, found: Inspection) -> Uses:
    parser = catalogue.FORMATS[found.format].resolve()
    rows = [row for row in islice(read_rows(source), _SEARCHED) if not isinstance(row, BrokenLine)]
    uses = column_uses(
        rows,
        lambda row: parser(renamed(row, source.columns), found.kind),
        [name for names in found.counted.unused.values() for name in names],
    )
    if OTHER_SPLIT in found.dropped and "split" in uses.unused:  # it is looked at before any row is parsed
        uses.unused.remove("split")
        uses.decides.append("split")
    return uses


def _warnings(found: Inspection) -> list[str]:
    warnings = [f"not read: {listed(found.left_out)}"] if found.left_out else []
    if found.uses.unused and found.counted.rows:  # a row that is dropped at its first column says nothing of the others
        warnings.append(found.unused_line)
    warnings += found.counted.remark_lines
    dropped = sum(count for reason, count in found.dropped.items() if reason not in ASKED_FOR)
    if dropped > WARNED_SHARE * found.counted.read:
        warnings.append(f"dropped: {dropped} of {found.counted.read} rows")
    if found.error is not None:
        warnings.append(found.error_line)
    return warnings


def inspect_table(payload: Path, kind: str = "") -> Inspection:
    """Look at a table of an artifact: what `prepare` counted when it made it, and its rows, those to train on first.

    Args:
        payload: The payload of a data set.
        kind: A folder of it; empty: the first of TABLES that it has.

    Raises:
        UserError: the artifact has no such table, or none at all.
        DamagedArtifactError: a file is not the one that was published.
    """
    folders = {file.parent.name for file in payload.glob("*/*.parquet")}
    tables = [name for name in TABLES if name in folders]
    if not tables:
        raise UserError(
            "the artifact has no table of rows",
            where=str(payload.parent.name),
            do="`alignflow list prepare` shows prepared data",
        )
    if kind and kind not in tables:
        raise UserError(f"the artifact has no table {quoted(kind)}", where="--as", do=suggest(kind, tables))
    table = kind or tables[0]
    files = sorted(
        (payload / table).glob("*.parquet"), key=lambda file: [side != file.stem for side in SIDES] + [file.name]
    )
    for file in files:
        verify_file(file)
    rows = [row for file in files for row in read_table(file)]
    known = _statistics(payload).get(table, {})
    formats = {str(name): str(value) for name, value in known.get("formats", {}).items()}
    counted = Kept(
        rows,
        known.get("read", len(rows)),
        Counter(known.get("dropped", {})),
        formats,
        known.get("examples", {}),
        known.get("unused", {}),
        Counter(known.get("remarks", {})),
    )
    found = Inspection(table, tables, ", ".join(sorted(set(formats.values()))) or "alignflow", counted)
    found.warnings = _warnings(found)
    return found


def _statistics(payload: Path) -> Mapping[str, Any]:
    file = payload / "statistics.json"
    if not file.is_file():
        return {}
    verify_file(file)
    tables: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")).get("tables", {})
    return tables


def with_template(tokenizer: Any) -> list[str]:
    """Give the tokenizer the chat template that `init` gives it where it has none, and return a line that says so."""
    if tokenizer.chat_template is not None:
        return []
    tokenizer.chat_template = TEMPLATES["instruction"]
    return ["the tokenizer has no chat template: rows are written by `instruction`, which `init` sets for such a model"]


def render(tokenizer: Any, row: Row) -> dict[str, Rendered]:
    """A prepared row as the model sees it: one conversation under the name "", or each answer of several under a name of its own.

    Args:
        tokenizer: The tokenizer, with its chat template.
        row: A row of any table of records.SCHEMAS but `references`.

    Raises:
        ModelError: the chat template cannot write the row.
    """
    if "text" in row:  # general text is scored after BOS, or EOS where there is none
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = encode_text(tokenizer, row["text"])
        return {"": Rendered([start, *ids], [False] + [True] * len(ids))}
    if "messages" in row:
        return {"": Rendered(*encode_conversation(tokenizer, row["messages"]))}
    if "completions" in row:
        ends = row.get("ended") or [True] * len(row["completions"])
        return {
            str(index): _answered(tokenizer, row["prompt"], text, ended)
            for index, (text, ended) in enumerate(zip(row["completions"], ends, strict=True))
        }
    sides = [side for side in ("chosen", "rejected", "completion") if side in row]
    if not sides:
        ids = encode_prompt(tokenizer, row["prompt"])
        return {"": Rendered(ids, [False] * len(ids))}
    return {
        side if len(sides) > 1 else "": _answered(
            tokenizer, row["prompt"], row[side][-1]["content"], row.get(f"{side}_ended") is not False
        )
        for side in sides
    }


def _answered(tokenizer: Any, prompt: Sequence[Mapping[str, str]], answer: str, ended: bool) -> Rendered:
    """A prompt with an answer, which alone is supervised."""
    turn = encode_turn(tokenizer, prompt, answer, ended=ended)
    return Rendered(
        [*turn.prompt_ids, *turn.completion_ids], [False] * len(turn.prompt_ids) + [True] * len(turn.completion_ids)
    )


def rendered_rows(tokenizer: Any, rows: Sequence[Row], warnings: list[str]) -> list[dict[str, Rendered]]:
    """Rows as `render` gives them; one that the chat template refuses is empty. `warnings` name these, and rows with unknown tokens."""
    found: list[dict[str, Rendered]] = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(render(tokenizer, row))
        except ModelError as error:
            found.append({})
            warnings.append(f"row {number} cannot be written: {error.what}")
        unknown = sum(side.ids.count(tokenizer.unk_token_id) for side in found[-1].values())
        if unknown:
            warnings.append(
                f"row {number} has {unknown} times {tokenizer.unk_token}: the tokenizer does not know what stands there"
            )
    return found


def token_warnings(tokenizer: Any, rows: list[Row] | SpooledRows, max_length: int | None) -> list[str]:
    """How many rows are over `max_length` tokens, and how many have control tokens in their text."""
    controls = [token for token in tokenizer.all_special_tokens if token]
    with_controls = sum(any(token in row_text(row) for token in controls) for row in rows)
    longer, refused = _over(tokenizer, rows, max_length) if max_length is not None else (0, 0)
    counts = {
        "control tokens in the text, which are encoded as plain text": with_controls,
        f"over {max_length} tokens, prompt and answer together": longer,
        "refused by the chat template": refused,
    }
    return [f"{what}: {number} of {len(rows)} rows" for what, number in counts.items() if number]


def _over(tokenizer: Any, rows: list[Row] | SpooledRows, max_length: int) -> tuple[int, int]:
    """How many rows are longer, and how many the chat template refuses."""
    longer, refused = 0, 0
    for row in rows:
        try:
            lengths, written = encoded_lengths([row], [0], tokenizer)
            longer += int(lengths.total[0] > max_length)
            refused += int(not written[0])
        except ModelError:
            refused += 1
    return longer, refused


def as_json(
    found: Inspection, shown: int, tokenizer: Any = None, rendered: Sequence[dict[str, Rendered]] = ()
) -> dict[str, Any]:
    """The inspection as one object, with its first `shown` rows.

    With a tokenizer a row has `ids`, `tokens` and `supervised`: lists, or one list for each answer where a row has several.
    """
    rows: list[Row] = []
    for row, sides in zip(islice(found.counted.rows, shown), rendered or [{}] * shown, strict=False):
        columns = [
            (name, {side: _column(name, given, tokenizer) for side, given in sides.items()})
            for name in ("ids", "tokens", "supervised")
        ]
        rows.append({**row, **{name: values.get("", values) for name, values in columns if values}})
    return {
        "format": found.format,
        "kind": found.kind,
        "read": found.counted.read,
        "kept": len(found.counted.rows),
        "dropped": found.dropped,
        "examples": found.counted.examples,
        "columns": asdict(found.uses),
        "warnings": found.warnings,
        "rows": rows,
    }


def _column(name: str, given: Rendered, tokenizer: Any) -> list[Any]:
    column: list[Any] = tokenizer.convert_ids_to_tokens(given.ids) if name == "tokens" else getattr(given, name)
    return column


def visible(tokenizer: Any, token: int) -> str:
    """The text that a token stands for, with its blanks as ␣ and its line ends as ⏎; the tokenizer's own name for a part of a character.

    A tokenizer may drop a blank at the start of a text, so the token is decoded behind itself.
    """
    alone, twice = (tokenizer.decode([token] * number, clean_up_tokenization_spaces=False) for number in (1, 2))
    text = twice[len(alone) :] if twice.startswith(alone) else alone
    if not text or "\ufffd" in text:
        text = str(tokenizer.convert_ids_to_tokens(token))
    return printable(text.replace("\t", "\\t").replace("\n", "⏎").replace(" ", "␣"))
