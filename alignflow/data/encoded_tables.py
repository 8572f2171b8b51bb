"""Where the token ids of a table are: found, or made once for all who train on the same rows with the same tokenizer.

A file lies in the store, in `encoded/TABLE/KIND-IDENTITY-DIGEST.arrow`: TABLE is the digest of the table's bytes, IDENTITY that of
all else that the ids depend on, and DIGEST that of the file's own bytes. Two who make it at once write the same bytes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from alignflow.data.artifacts import artifact_of, canonical_json, checked_manifest, file_digest, text_digest
from alignflow.data.durable import sync
from alignflow.data.encoded_kinds import EncodedKind
from alignflow.data.encoded_place import PLACE, TEMPORARY, check_whole, directory_of
from alignflow.data.encoded_rows import FORMAT, EncodedRows, EncodedRowWriter, RowIds
from alignflow.data.host import remove_abandoned, this_host
from alignflow.data.records import table_batches
from alignflow.data.run import Run
from alignflow.data.seals import SealError
from alignflow.data.shared_parts import PARTS
from alignflow.data.tokenizer_code import code_of

BATCH_ROWS = 1024
SHOWN_AFTER_S = 2.0
_LIBRARIES = ("tokenizers", "transformers", "jinja2")


class EncodedTable:
    """The token ids of one table.

    Args:
        table: A Parquet file. One that lies in no artifact of the store has its ids in the stage's own directory, because nobody
            pins it.
        kind: What its rows are.
        tokenizer: The tokenizer, with its chat template.
        run: Whose store it is, and who hears of damage and progress.
    """

    def __init__(self, table: Path, kind: EncodedKind, tokenizer: Any, run: Run):
        self._table, self._kind, self._tokenizer, self._run = Path(table).absolute(), kind, tokenizer, run
        encoded = run.encoded if artifact_of(self._table) is not None else None
        self.directory = directory_of(run.work / PLACE if encoded is None else encoded, table_digest(self._table))
        self._prefix = f"{kind.name}-{identity_of(kind, tokenizer)}-"

    def make(self) -> Iterator[None]:
        """Encode the table unless a whole file is there; a damaged file is dropped, and made again. Yields after each batch.

        Raises:
            TemplateRefusedError: the chat template refuses a row.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            os.utime(self.directory)  # its last use, by which gc goes
        if self._checked():
            return
        remove_abandoned(self.directory, TEMPORARY)
        temporary = self.directory / f"{TEMPORARY}{os.getpid()}-{this_host().id}-{self._prefix}"
        try:
            with EncodedRowWriter(temporary, self._kind.answers, self._kind.values) as writer:
                yield from self._write(writer)
            self._commit(temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def open(self) -> EncodedRows:
        """Map the file; where none is there, because `make` ran on a machine with other files, it is made first."""
        if not self._files():
            for _ in self.make():
                pass
        return EncodedRows(self._files()[0])

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob(f"{self._prefix}*.arrow"))

    def _checked(self) -> bool:
        """Whether a whole file is there; damaged ones are dropped."""
        for path in self._files():
            try:
                check_whole(path)
                return True
            except FileNotFoundError:  # another process has found it damaged
                continue
            except SealError:
                path.unlink(missing_ok=True)
                self._run.note(
                    f"the token ids of {self._table.name} were damaged on disk and were dropped: they are made again"
                )
        return False

    def _write(self, writer: EncodedRowWriter) -> Iterator[None]:
        with pq.ParquetFile(self._table) as file:
            total = file.metadata.num_rows
        started, done = time.monotonic(), 0
        for rows in table_batches(self._table, BATCH_ROWS):
            parts = [part for row in rows for part in self._kind.expand(row)]
            answers = self._kind.encode(self._tokenizer, parts)
            writer.write(
                [RowIds(row["id"], found, self._values(row)) for row, found in zip(parts, answers, strict=True)]
            )
            done += len(rows)
            if time.monotonic() - started > SHOWN_AFTER_S:
                self._run.progress(done, total, "rows encoded")
            yield

    def _values(self, row: dict[str, Any]) -> tuple[float | None, ...]:
        """The numbers of a row; a table of an earlier version may lack a column."""
        found = (row.get(name) for name in self._kind.values)
        return tuple(None if value is None else float(value) for value in found)

    def _commit(self, temporary: Path) -> None:
        """Give the file its name, at once and for all; where another process was first, its file stays, because it may be mapped."""
        sync(temporary)
        target = self.directory / f"{self._prefix}{file_digest(temporary)}.arrow"
        try:
            os.link(temporary, target)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            os.replace(temporary, target)
        sync(self.directory)


def table_digest(table: Path) -> str:
    """SHA-256 of a table's bytes: in the store as its manifest has it, which is checked when a stage begins."""
    artifact = artifact_of(table)
    if artifact is not None:
        found = checked_manifest(artifact).files.get(str(table.relative_to(artifact / "payload")))
        if found:
            return found
    return file_digest(table)


def identity_of(kind: EncodedKind, tokenizer: Any) -> str:
    """Thirty-two digits that stand for all that a table's ids depend on beside its bytes: tokenizer, chat template, and code."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    of_calls = ("truncation", "padding")  # every call sets them
    about = {
        "kind": kind.name,
        "answers": kind.answers,
        "values": kind.values,
        "format": FORMAT,
        "versions": {name: PARTS[name].version for name in ("rendering", "records", "rows")},
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "class": code_of(type(tokenizer)),
        "backend": {name: value for name, value in backend.items() if name not in of_calls},
        "template": tokenizer.chat_template,
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "all_special": [*map(str, tokenizer.all_special_tokens)],
        "eos": tokenizer.eos_token_id,
        "bos": tokenizer.bos_token_id,
        "split": bool(getattr(tokenizer, "split_special_tokens", False)),
    }
    return text_digest(canonical_json(about))[:32]
