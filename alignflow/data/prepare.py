"""The stage body `prepare`: raw sources in, clean tables out, split by prompt, with every dropped row accounted for.

Rows wait on disk between the passes over a table, and processes work on chunks of them. So memory holds some numbers of each row, about
a hundred bytes, and the artifact is the same for any number of processes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from alignflow.data.chat_templates import write_conversation
from alignflow.data.configs.inputs import PROMPTED, PrepareConfig, SourceConfig
from alignflow.data.dropped import Parsed, say_dropped
from alignflow.data.errors import DataError, cut
from alignflow.data.filters import Table
from alignflow.data.licences import licences_by_path
from alignflow.data.measuring import Measuring, forget, measure_file, tokenizer_of, write_evaluation
from alignflow.data.parsing import Chunk, Kept, Parsing, parse_to_spool
from alignflow.data.printable import printable
from alignflow.data.records import more_columns, row_id, write_table
from alignflow.data.rendering import encode_conversation
from alignflow.data.row_texts import Row, prompt_messages
from alignflow.data.row_workers import Workers, usable_cores
from alignflow.data.run import Run, write_json
from alignflow.data.source_names import source_names
from alignflow.data.sources.reading import chosen_files
from alignflow.data.sources.splits import listed
from alignflow.data.spool import Spool, read_rows, write_rows

SPLIT = ("demonstrations", "prompts", "preferences", "unpaired", "rankings")
SHOWN = 3
SAID_AFTER_S = 2.0
"""A table that takes less says nothing of its rows while it is made."""


def prepare(config: PrepareConfig, *, tokenizer: Path, run: Run) -> dict[str, float | None]:
    """Write the tables that the config's sources give (see records.py), statistics.json and samples.json.

    Train and held-out sides are told apart by a hash of the normalised prompt, so no prompt stands on both, and new
    data moves no row. Metrics: rows kept and dropped of each kind, and dropped for each reason.

    Raises:
        DataError: a source cannot be used, nothing is left of a kind, or more is dropped than `max_dropped_fraction`.
        StageError: a process that worked on rows died.
    """
    forget()
    kinds = [kind for kind in (*SPLIT, "completions") if getattr(config, kind)]
    processes = min(run.runtime.threads, usable_cores())
    with Spool(run.out.parent / "spool") as spool, Workers(processes, run.note) as workers:
        work = _Tables(config, tokenizer, run, spool, workers, total=len(kinds) + 3)
        work.evaluation()
        for kind in kinds:
            work.table(kind, getattr(config, kind))
        if not config.prompts and (with_prompts := [kind for kind in PROMPTED if kind in kinds]):
            work.prompts_of(with_prompts[0])
        work.heldout_prompts()
        work.general()
    write_json(run.out / "statistics.json", {"tables": work.statistics, "licences": licences(config)})
    write_json(run.out / "samples.json", work.samples)
    return {
        name: float(value) for kind, found in work.statistics.items() for name, value in _metrics(kind, found).items()
    }


def _metrics(kind: str, found: dict[str, Any]) -> dict[str, int]:
    reasons = {f"{kind}/dropped/{reason}": count for reason, count in found["dropped"].items()}
    return {f"{kind}/kept": found["kept"], f"{kind}/dropped": sum(found["dropped"].values()), **reasons}


class _Tables:
    """Writes one kind after the other."""

    def __init__(self, config: PrepareConfig, tokenizer: Path, run: Run, spool: Spool, workers: Workers, total: int):
        self.config, self.tokenizer, self.run, self.spool, self.workers = config, tokenizer, run, spool, workers
        self.statistics: dict[str, Any] = {}
        self.samples: dict[str, list[str]] = {}
        self.sides: dict[str, dict[str, np.ndarray]] = {}
        self.tables: dict[str, Table] = {}
        self._told: set[str] = set()
        self._done, self._total, self._began = 0, total, time.monotonic()
        self._evaluation: tuple[Path, int] | None = None

    def _advance(self) -> None:
        self._done += 1
        self._began = time.monotonic()
        self.run.progress(min(self._done, self._total), self._total, "tables")

    def _say_rows(self, done: int, total: int, unit: str) -> None:
        if time.monotonic() - self._began > SAID_AFTER_S:
            self.run.progress(done, total, unit)

    def evaluation(self) -> None:
        """Write the evaluation prompts that the config names, where it names any."""
        self._advance()
        if not self.config.evaluation:
            return
        kept = Kept()
        table, parsed = self._measured(
            "evaluation", "prompts", kept, self._parsed(self.config.evaluation, "prompts", kept), near=False
        )
        table.drop_unfit()
        table.drop_duplicates()
        self._drop_over_long(table)
        say_dropped("evaluation", kept, parsed, self.config, self.run)
        self._finish("evaluation", table)
        _write(table, table.left, "prompts", self.run.out / "evaluation" / "prompts.parquet")
        place = self.spool.new(".json")
        self._evaluation = place, write_evaluation(kept.rows, self.config.decontaminate_ngram, place)

    def table(self, kind: str, sources: Sequence[SourceConfig]) -> None:
        """Parse, clean, split and write the sources of one kind."""
        kept = Kept()
        self._advance()
        self._clean_and_write(kind, kept, self._parsed(sources, kind, kept))

    def _parsed(self, sources: Sequence[SourceConfig], kind: str, kept: Kept) -> list[Chunk]:
        """The rows of some sources; says once which files and columns of each are not read."""
        for source in sources:
            if left_out := chosen_files(source).left_out:
                self._tell(f"{source_names(self.config)[source.path, source.split]}: not read: {listed(left_out)}")
        parsing = Parsing(
            kind, self.config, kept, self.spool, self.workers, lambda rows: self._say_rows(rows, rows, "rows read")
        )
        chunks = list(parse_to_spool(sources, parsing))
        for name, columns in kept.unused.items():
            if columns:
                self._tell(f"{name}: columns that are not used: {cut(', '.join(columns))}")
        for line in kept.remark_lines:
            self._tell(f"{kind}: {line}")
        return chunks

    def _measured(
        self, name: str, kind: str, kept: Kept, chunks: Sequence[Chunk], *, encoded: bool = True, near: bool = True
    ) -> tuple[Table, Parsed]:
        """A table with all that the filters need to know, and how many rows were lost by now."""
        near = near and self.config.near_duplicate_threshold < 1
        evaluation = self._evaluation[0] if self._evaluation else None
        measuring = Measuring(kind, self.config, self.tokenizer, evaluation, encoded, near)
        done, total, measured = 0, sum(chunk.size for chunk in chunks), []
        for found in self.workers.map(measure_file, ((chunk.path, chunk.chosen, measuring) for chunk in chunks)):
            measured.append(found)
            done += len(found.fate)
            self._say_rows(done, total, "rows")
        if merged := sum(found.merged for found in measured):
            self.run.warn(
                f"{merged} system turns of {name} were merged into the first user turn, since the chat template takes none"
            )
        table = Table(measured, kept)
        return table, Parsed.of(kept)

    def _tell(self, text: str) -> None:
        """Warn once, although several kinds may come from one source."""
        if text not in self._told:
            self._told.add(text)
            self.run.warn(printable(text))

    def prompts_of(self, kind: str) -> None:
        """The prompts of another table, where the config has none of their own."""
        self._advance()
        table = self.tables[kind]
        parts = [
            (chunk, mask)
            for side in ("train", "heldout")
            for chunk, mask in zip(table.chunks, table.parts(self.sides[kind][side]), strict=True)
        ]
        jobs = [(chunk.path, mask, self.spool.new()) for chunk, mask in parts if mask.any()]
        chunks = [Chunk(path, int(mask.sum())) for (_, mask, path) in jobs]
        for _ in self.workers.map(_write_prompts, jobs):
            pass
        self._clean_and_write("prompts", Kept(read=sum(chunk.size for chunk in chunks)), chunks)

    def _clean_and_write(self, kind: str, kept: Kept, chunks: Sequence[Chunk]) -> None:
        table, parsed = self._measured(kind, kind, kept, chunks)
        table.drop_unfit()
        table.drop_duplicates()
        table.drop_near_duplicates(
            self.config.near_duplicate_threshold,
            self.spool,
            self.workers,
            lambda done, total: self._say_rows(done, total, "rows compared"),
        )
        if self._evaluation and (shared := table.drop_contaminated(self._evaluation[1])):
            self.run.warn(
                f"{shared} runs of {self.config.decontaminate_ngram} words that evaluation prompts have stand in more than half of {kind}: "
                "rows are not dropped for these"
            )
        self._drop_over_long(table)
        say_dropped(kind, kept, parsed, self.config, self.run)
        self.tables[kind], self.sides[kind] = table, self._split(table, kind)
        self._finish(kind, table)
        for side, mask in self.sides[kind].items():
            if kind != "completions" or side == "train":
                _write(table, mask, kind, self.run.out / kind / f"{side}.parquet")

    def _drop_over_long(self, table: Table) -> None:
        table.drop_over_long(self.config.max_length, None if self.config.truncate else self.config.max_prompt_length)

    def _split(self, table: Table, kind: str) -> dict[str, np.ndarray]:
        """Train and held-out rows, by prompt, as masks. Completions stay whole: the label stage splits them the same way."""
        held = table.left & table.column(lambda chunk: chunk.held_out)
        # Given evaluation prompts are the held-out side of the prompts: the others can all be sampled from.
        if kind == "completions" or (kind == "prompts" and bool(self.config.evaluation)):
            held = np.zeros_like(held)
        if not (table.left & ~held).any():
            raise DataError(
                f"every row of {kind} fell on the held-out side",
                where=f"data.{kind}",
                do="give more rows, or lower heldout_fraction",
            )
        return {"train": table.left & ~held, "heldout": held}

    def heldout_prompts(self) -> None:
        """Evaluation prompts where the config names none: the held-out side of the prompts, of which no two are equal in normalised text."""
        if (
            self._evaluation is None
            and "prompts" in self.tables
            and (count := int(self.sides["prompts"]["heldout"].sum()))
        ):
            _copy(self.run.out / "prompts" / "heldout.parquet", self.run.out / "evaluation" / "prompts.parquet")
            self.statistics["evaluation"] = {"kept": count, "read": count, "dropped": {}, "formats": {}, "lengths": {}}

    def general(self) -> None:
        """General text for the held-out NLL: the config's, or else the held-out demonstrations."""
        self._advance()
        if self.config.general:
            kept = Kept()
            chunks = self._parsed(self.config.general, "texts", kept)
            table, parsed = self._measured("general", "texts", kept, chunks, encoded=False, near=False)
            table.drop_duplicates()
            say_dropped("general", kept, parsed, self.config, self.run)
            self._finish("general", table, encoded=False)
            _write(table, table.left, "texts", self.run.out / "general" / "texts.parquet")
        elif "demonstrations" in self.sides:
            _copy(
                self.run.out / "demonstrations" / "heldout.parquet", self.run.out / "general" / "demonstrations.parquet"
            )

    def _finish(self, kind: str, table: Table, encoded: bool = True) -> None:
        """Statistics, samples and warnings of a table."""
        import pandas  # here, since the processes that work on rows need none

        kept, left = table.kept, table.left
        sides = {side: int(mask.sum()) for side, mask in self.sides.get(kind, {}).items()}
        lengths = {name: table.column(attrgetter(f"lengths.{name}"))[left] for name in ("prompt", "total", "merged")}
        described = (
            pandas.DataFrame({name: lengths[name] for name in ("prompt", "total")})
            .describe(percentiles=[0.5, 0.95])
            .to_dict()
            if encoded
            else {}
        )
        across = int(lengths["merged"].sum())
        with_controls = int((table.column(lambda chunk: chunk.controls) & left).sum())
        self.statistics[kind] = {
            "read": kept.read,
            "kept": len(kept.rows),
            "dropped": {name: count for name, count in sorted(kept.dropped.items()) if count},
            "formats": kept.formats,
            "sides": sides,
            "lengths": described,
            "control_tokens_in_text": with_controls,
            "tokens_across_the_border": across,
            "unused": dict(sorted(kept.unused.items())),
            "remarks": dict(sorted(kept.remarks.items())),
            "examples": {reason: cut(text) for reason, text in sorted(kept.examples.items())},
            "sources": table.sources(),
        }
        if across:
            self.run.warn(
                f"{across} rows of {kind} have a token of the chat template's own encoding across the border before an answer: "
                "prompt and answer are encoded apart, as the model that samples sees them"
            )
        if with_controls:
            self.run.warn(
                f"{with_controls} rows of {kind} have control tokens in their text; they are encoded as plain text"
            )
        self.samples[kind] = [rendered(row, tokenizer_of(self.tokenizer)) for row in _first(iter(kept.rows))]
        for text in self.samples[kind]:
            print(f"--- {kind}\n{text}", flush=True)


def _write(table: Table, mask: np.ndarray, kind: str, path: Path) -> None:
    """Write some rows of a table, with places for weights and tools where one of them has any."""
    weighted, with_tools = (
        bool((table.column(get) & mask).any()) for get in (lambda chunk: chunk.weighted, lambda chunk: chunk.with_tools)
    )
    more = more_columns(kind, table.rows(mask))
    write_table(table.rows(mask), kind, path, weighted=weighted, with_tools=with_tools, more=more)


def _copy(table: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(table, target)


def _first(rows: Iterator[Row]) -> list[Row]:
    return [row for row, _ in zip(rows, range(SHOWN), strict=False)]


def _write_prompts(path: Path, mask: np.ndarray, target: Path) -> None:
    """Write the prompts of some rows of a chunk as rows of their own."""
    prompts = (
        {"prompt": prompt_messages(row), "source": row["source"], "instructions": None} for row in read_rows(path, mask)
    )
    write_rows(target, ({"id": row_id("prompts", row["prompt"]), **row} for row in prompts))


def rendered(row: Row, tokenizer: Any) -> str:
    """A row as the model will see it, control tokens included."""
    if "text" in row:
        return str(row["text"])
    if "messages" in row:
        return str(tokenizer.decode(encode_conversation(tokenizer, row["messages"])[0]))
    prompt = write_conversation(tokenizer, row["prompt"], True)
    answers = [f"\n[{side}] {row[side][-1]['content']}" for side in ("chosen", "rejected", "completion") if side in row]
    answers += [f"\n[{index}] {text}" for index, text in enumerate(row.get("completions", ()))]
    return prompt + "".join(answers)


def licences(config: PrepareConfig) -> dict[str, str]:
    """Path of each source -> the licence that the recipe states for it."""
    kinds = (*SPLIT, "completions", "evaluation", "general")
    return licences_by_path((source.path, source.licence) for kind in kinds for source in getattr(config, kind))
