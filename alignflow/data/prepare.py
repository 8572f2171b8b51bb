"""The stage body `prepare`: raw sources in, clean tables out, split by prompt, with every dropped row accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.filters import (
    drop_contaminated,
    drop_duplicates,
    drop_far_too_long,
    drop_over_long,
    prompt_messages,
    row_text,
)
from alignflow.data.parsing import Kept, parse_sources
from alignflow.data.records import is_held_out, prompt_digest, row_id, write_table
from alignflow.data.rendering import encode_conversation, load_tokenizer
from alignflow.data.run import Run, write_json

SPLIT = ("demonstrations", "prompts", "preferences", "unpaired")
SHOWN = 3


def prepare(config: PrepareConfig, *, tokenizer: Path, run: Run) -> dict[str, float | None]:
    """Write the tables that the config's sources give (see records.py), statistics.json and samples.json.

    Train and held-out sides are told apart by a hash of the normalised prompt, so no prompt stands on both, and new
    data moves no row. Metrics: rows kept and dropped of each kind.

    Raises:
        DataError: a source cannot be used, or nothing is left of a kind.
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
    return {
        f"{kind}/{name}": float(value)
        for kind, found in work.statistics.items() for name, value in (("kept", found["kept"]), ("dropped", sum(found["dropped"].values())))
    }  # fmt: skip


class _Tables:
    """Writes one kind after the other."""

    def __init__(self, config: PrepareConfig, tokenizer: Any, run: Run, total: int):
        self.config, self.tokenizer, self.run = config, tokenizer, run
        self.statistics: dict[str, Any] = {}
        self.samples: dict[str, list[str]] = {}
        self.sides: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._done, self._total = 0, total

    def _advance(self) -> None:
        self._done += 1
        self.run.progress(min(self._done, self._total), self._total, "tables")

    def evaluation(self) -> list[dict[str, Any]]:
        """The evaluation prompts that the config names, written; none where it names none."""
        self._advance()
        if not self.config.evaluation:
            return []
        kept = parse_sources(self.config.evaluation, "prompts", self.config)
        drop_far_too_long(kept, self.tokenizer, self.config.max_length)
        drop_duplicates(kept, 1.0)
        lengths = drop_over_long(kept, self.tokenizer, self.config)
        self._finish("evaluation", kept, lengths)
        write_table(kept.rows, "prompts", self.run.out / "evaluation" / "prompts.parquet")
        return kept.rows

    def table(self, kind: str, sources: Sequence[SourceConfig], evaluation: list[dict[str, Any]]) -> None:
        """Parse, clean, split and write the sources of one kind."""
        kept = parse_sources(sources, kind, self.config)
        self._clean_and_write(kind, kept, evaluation)

    def prompts_of(self, kind: str, evaluation: list[dict[str, Any]]) -> None:
        """The prompts of another table, where the config has none of their own."""
        rows = [row for side in ("train", "heldout") for row in self.sides[kind][side]]
        prompts = [{"prompt": prompt_messages(row), "source": row["source"], "instructions": None} for row in rows]
        named = [{"id": row_id("prompts", row["prompt"]), **row} for row in prompts]
        self._clean_and_write("prompts", Kept(rows=named, read=len(named)), evaluation)

    def _clean_and_write(self, kind: str, kept: Kept, evaluation: list[dict[str, Any]]) -> None:
        self._advance()
        drop_far_too_long(kept, self.tokenizer, self.config.max_length)
        drop_duplicates(kept, self.config.near_duplicate_threshold)
        drop_contaminated(kept, evaluation, self.config.decontaminate_ngram)
        lengths = drop_over_long(kept, self.tokenizer, self.config)
        if not kept.rows:
            reasons = ", ".join(f"{reason} {count}" for reason, count in kept.dropped.most_common(5))
            raise DataError(f"no {kind} are left ({reasons})", where=f"data.{kind}", do="raise the limit that dropped most of them")
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
            kept = parse_sources(self.config.general, "texts", self.config)
            drop_duplicates(kept, 1.0)
            self._finish("general", kept, [])
            write_table(kept.rows, "texts", self.run.out / "general" / "texts.parquet")
        elif "demonstrations" in self.sides:
            write_table(self.sides["demonstrations"]["heldout"], "demonstrations", self.run.out / "general" / "demonstrations.parquet")

    def _finish(self, kind: str, kept: Kept, lengths: list[dict[str, int]]) -> None:
        sides = {side: len(rows) for side, rows in self.sides.get(kind, {}).items()}
        tables = pandas.DataFrame(lengths).describe(percentiles=[0.5, 0.95]).to_dict() if lengths else {}
        controls = [token for token in self.tokenizer.all_special_tokens if token]
        with_controls = sum(any(token in row_text(row) for token in controls) for row in kept.rows)
        self.statistics[kind] = {
            "read": kept.read, "kept": len(kept.rows), "dropped": {name: count for name, count in sorted(kept.dropped.items()) if count},
            "formats": kept.formats, "sides": sides, "lengths": tables, "control_tokens_in_text": with_controls,
            "sources": dict(sorted(Counter(row["source"] for row in kept.rows).items())),
        }  # fmt: skip
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
        prompt = self.tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        answers = [f"\n[{side}] {row[side][-1]['content']}" for side in ("chosen", "rejected", "completion") if side in row]
        answers += [f"\n[{index}] {text}" for index, text in enumerate(row.get("completions", ()))]
        return prompt + "".join(answers)


def licences(config: PrepareConfig) -> dict[str, str]:
    """Source -> the licence that the recipe states for it."""
    kinds = (*SPLIT, "completions", "evaluation", "general")
    return {Path(source.path).name: source.licence for kind in kinds for source in getattr(config, kind)}
