"""The stage body `prepare`: raw sources in, clean tables out, split by prompt, with every dropped row accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from alignflow.data.chat_templates import write_conversation
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.dropped import Parsed, say_dropped
from alignflow.data.errors import DataError, cut
from alignflow.data.filters import (
    drop_contaminated,
    drop_duplicates,
    drop_far_too_long,
    drop_over_long,
    prompt_messages,
    row_text,
)
from alignflow.data.licences import licences_by_path
from alignflow.data.parsing import Kept, parse_sources, source_name
from alignflow.data.printable import printable
from alignflow.data.records import is_held_out, prompt_digest, row_id, write_table
from alignflow.data.rendering import encode_conversation, load_tokenizer
from alignflow.data.run import Run, write_json
from alignflow.data.sources.reading import chosen_files
from alignflow.data.sources.splits import listed
from alignflow.data.template_rows import fit_to_template

SPLIT = ("demonstrations", "prompts", "preferences", "unpaired")
SHOWN = 3


def prepare(config: PrepareConfig, *, tokenizer: Path, run: Run) -> dict[str, float | None]:
    """Write the tables that the config's sources give (see records.py), statistics.json and samples.json.

    Train and held-out sides are told apart by a hash of the normalised prompt, so no prompt stands on both, and new
    data moves no row. Metrics: rows kept and dropped of each kind, and dropped for each reason.

    Raises:
        DataError: a source cannot be used, nothing is left of a kind, or more is dropped than `max_dropped_fraction`.
    """
    tokens = load_tokenizer(tokenizer)
    kinds = [kind for kind in (*SPLIT, "completions") if getattr(config, kind)]
    work = _Tables(config, tokens, run, total=len(kinds) + 3)
    evaluation = work.evaluation()
    for kind in kinds:
        work.table(kind, getattr(config, kind), evaluation)
    if not config.prompts and (config.demonstrations or config.preferences):
        work.prompts_of("demonstrations" if config.demonstrations else "preferences", evaluation)
    if not evaluation:
        work.heldout_prompts()
    work.general()
    write_json(run.out / "statistics.json", {"tables": work.statistics, "licences": licences(config)})
    write_json(run.out / "samples.json", work.samples)
    return {name: float(value) for kind, found in work.statistics.items() for name, value in _metrics(kind, found).items()}


def _metrics(kind: str, found: dict[str, Any]) -> dict[str, int]:
    reasons = {f"{kind}/dropped/{reason}": count for reason, count in found["dropped"].items()}
    return {f"{kind}/kept": found["kept"], f"{kind}/dropped": sum(found["dropped"].values()), **reasons}


class _Tables:
    """Writes one kind after the other."""

    def __init__(self, config: PrepareConfig, tokenizer: Any, run: Run, total: int):
        self.config, self.tokenizer, self.run = config, tokenizer, run
        self.statistics: dict[str, Any] = {}
        self.samples: dict[str, list[str]] = {}
        self.sides: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._told: set[str] = set()
        self._done, self._total = 0, total

    def _advance(self) -> None:
        self._done += 1
        self.run.progress(min(self._done, self._total), self._total, "tables")

    def evaluation(self) -> list[dict[str, Any]]:
        """The evaluation prompts that the config names, written; none where it names none."""
        self._advance()
        if not self.config.evaluation:
            return []
        kept = self._parse(self.config.evaluation, "prompts")
        parsed = Parsed.of(kept)
        drop_far_too_long(kept, self.tokenizer, self.config.max_length)
        self._fit_to_template(kept, "evaluation", "prompts")
        drop_duplicates(kept, 1.0)
        lengths = drop_over_long(kept, self.tokenizer, self.config)
        say_dropped("evaluation", kept, parsed, self.config, self.run)
        self._finish("evaluation", kept, lengths)
        write_table(kept.rows, "prompts", self.run.out / "evaluation" / "prompts.parquet")
        return kept.rows

    def table(self, kind: str, sources: Sequence[SourceConfig], evaluation: list[dict[str, Any]]) -> None:
        """Parse, clean, split and write the sources of one kind."""
        self._clean_and_write(kind, self._parse(sources, kind), evaluation)

    def _parse(self, sources: Sequence[SourceConfig], kind: str) -> Kept:
        """The rows of some sources; says once which files and columns of each are not read."""
        for source in sources:
            if left_out := chosen_files(source).left_out:
                self._tell(f"{source_name(source)}: not read: {listed(left_out)}")
        kept = parse_sources(sources, kind, self.config)
        for name, columns in kept.unused.items():
            if columns:
                self._tell(f"{name}: columns that are not used: {cut(', '.join(columns))}")
        return kept

    def _fit_to_template(self, kept: Kept, name: str, kind: str) -> None:
        if merged := fit_to_template(kept, kind, self.tokenizer, self.config):
            self.run.warn(f"{merged} system turns of {name} were merged into the first user turn, since the chat template takes none")

    def _tell(self, text: str) -> None:
        """Warn once, although several kinds may come from one source."""
        if text not in self._told:
            self._told.add(text)
            self.run.warn(printable(text))

    def prompts_of(self, kind: str, evaluation: list[dict[str, Any]]) -> None:
        """The prompts of another table, where the config has none of their own."""
        rows = [row for side in ("train", "heldout") for row in self.sides[kind][side]]
        prompts = [{"prompt": prompt_messages(row), "source": row["source"], "instructions": None} for row in rows]
        named = [{"id": row_id("prompts", row["prompt"]), **row} for row in prompts]
        self._clean_and_write("prompts", Kept(rows=named, read=len(named)), evaluation)

    def _clean_and_write(self, kind: str, kept: Kept, evaluation: list[dict[str, Any]]) -> None:
        self._advance()
        parsed = Parsed.of(kept)
        drop_far_too_long(kept, self.tokenizer, self.config.max_length)
        self._fit_to_template(kept, kind, kind)
        drop_duplicates(kept, self.config.near_duplicate_threshold)
        drop_contaminated(kept, evaluation, self.config.decontaminate_ngram)
        lengths = drop_over_long(kept, self.tokenizer, self.config)
        say_dropped(kind, kept, parsed, self.config, self.run)
        self.sides[kind] = self._split(kept.rows, kind)
        self._finish(kind, kept, lengths)
        for side, rows in self.sides[kind].items():
            if kind != "completions" or side == "train":
                write_table(rows, kind, self.run.out / kind / f"{side}.parquet")

    def _split(self, rows: list[dict[str, Any]], kind: str) -> dict[str, list[dict[str, Any]]]:
        """Train and held-out rows, by prompt. Completions stay whole: the label stage splits them the same way."""
        sides: dict[str, list[dict[str, Any]]] = {"train": [], "heldout": []}
        # Given evaluation prompts are the held-out side of the prompts: the others can all be sampled from.
        whole = kind == "completions" or (kind == "prompts" and bool(self.config.evaluation))
        for row in rows:
            held = not whole and is_held_out(prompt_messages(row), self.config.heldout_fraction)
            sides["heldout" if held else "train"].append(row)
        if not sides["train"]:
            raise DataError(
                f"every row of {kind} fell on the held-out side", where=f"data.{kind}", do="give more rows, or lower heldout_fraction"
            )
        return sides

    def heldout_prompts(self) -> None:
        """Evaluation prompts where the config names none: the held-out side of the prompts."""
        rows = self.sides.get("prompts", {}).get("heldout", [])
        unique = {prompt_digest(row["prompt"]): row for row in reversed(rows)}
        if rows:
            write_table(reversed(unique.values()), "prompts", self.run.out / "evaluation" / "prompts.parquet")
            self.statistics["evaluation"] = {"kept": len(unique), "read": len(rows), "dropped": {}, "formats": {}, "lengths": {}}

    def general(self) -> None:
        """General text for the held-out NLL: the config's, or else the held-out demonstrations."""
        self._advance()
        if self.config.general:
            kept = self._parse(self.config.general, "texts")
            parsed = Parsed.of(kept)
            drop_duplicates(kept, 1.0)
            say_dropped("general", kept, parsed, self.config, self.run)
            self._finish("general", kept, [])
            write_table(kept.rows, "texts", self.run.out / "general" / "texts.parquet")
        elif "demonstrations" in self.sides:
            write_table(self.sides["demonstrations"]["heldout"], "demonstrations", self.run.out / "general" / "demonstrations.parquet")

    def _finish(self, kind: str, kept: Kept, lengths: list[dict[str, int]]) -> None:
        sides = {side: len(rows) for side, rows in self.sides.get(kind, {}).items()}
        tables = pandas.DataFrame(lengths)[["prompt", "total"]].describe(percentiles=[0.5, 0.95]).to_dict() if lengths else {}
        controls = [token for token in self.tokenizer.all_special_tokens if token]
        with_controls = sum(any(token in row_text(row) for token in controls) for row in kept.rows)
        self.statistics[kind] = {
            "read": kept.read, "kept": len(kept.rows), "dropped": {name: count for name, count in sorted(kept.dropped.items()) if count},
            "formats": kept.formats, "sides": sides, "lengths": tables, "control_tokens_in_text": with_controls,
            "tokens_across_the_border": sum(found["merged"] for found in lengths),
            "unused": dict(sorted(kept.unused.items())), "examples": {reason: cut(text) for reason, text in sorted(kept.examples.items())},
            "sources": dict(sorted(Counter(row["source"] for row in kept.rows).items())),
        }  # fmt: skip
        if across := sum(found["merged"] for found in lengths):
            self.run.warn(f"{across} rows of {kind} have a token of the chat template's own encoding across the border before an answer: "
                          "prompt and answer are encoded apart, as the model that samples sees them")  # fmt: skip
        if with_controls:
            self.run.warn(f"{with_controls} rows of {kind} have control tokens in their text; they are encoded as plain text")
        self.samples[kind] = [self._rendered(row) for row in kept.rows[:SHOWN]]
        for text in self.samples[kind]:
            print(f"--- {kind}\n{text}", flush=True)

    def _rendered(self, row: dict[str, Any]) -> str:
        """A row as the model will see it, control tokens included."""
        if "text" in row:
            return row["text"]
        if "messages" in row:
            return self.tokenizer.decode(encode_conversation(self.tokenizer, row["messages"])[0])
        prompt = write_conversation(self.tokenizer, row["prompt"], True)
        answers = [f"\n[{side}] {row[side][-1]['content']}" for side in ("chosen", "rejected", "completion") if side in row]
        answers += [f"\n[{index}] {text}" for index, text in enumerate(row.get("completions", ()))]
        return prompt + "".join(answers)


def licences(config: PrepareConfig) -> dict[str, str]:
    """Path of each source -> the licence that the recipe states for it."""
    kinds = (*SPLIT, "completions", "evaluation", "general")
    return licences_by_path((source.path, source.licence) for kind in kinds for source in getattr(config, kind))
