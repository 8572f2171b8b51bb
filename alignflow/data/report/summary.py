"""What a person sees of one stage on the server's page: a summary in Markdown, and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import Manifest
from alignflow.data.report.body import Stage, gather, number, plots, rollouts
from alignflow.data.report.markdown import escaped, fenced, table

LARGEST_PLOT = 200_000
"""Characters of a plot's data URI; a larger one is left out."""
SHOWN_ROWS = 5
LONGEST_TEXT = 2000
KEY_PAGE = "/v2/artifacts/key/{key}"


@dataclass(frozen=True)
class Circumstances:
    """How a stage came to be run.

    Attributes:
        recipe: Name of the recipe.
        why: Why it ran; empty where it was found.
        seconds: How long it took here.
        notes: Where its inputs come from, one line each.
        again: Address of the form that runs it again with these parameters; empty for none.
    """

    recipe: str = ""
    why: str = ""
    seconds: float = 0.0
    notes: Sequence[str] = field(default_factory=tuple)
    again: str = ""


def stage_page(name: str, manifest: Manifest, path: Path, circumstances: Circumstances) -> str:
    """The page of one artifact: what ran, from what, what came of it; everything that is not ours is escaped.

    Args:
        name: The step that it was made for.
        manifest: Its manifest.
        path: Its payload.
        circumstances: How it came to be run.
    """
    stage = Stage(name, path)
    parts = [
        f"# {escaped(name)}",
        _what(manifest, circumstances),
        *(f"- **Warning:** {escaped(warning)}" for warning in manifest.warnings),
        f"[Run {name} again with these parameters]({circumstances.again})" if circumstances.again else "",
        _inputs(manifest, circumstances.notes),
        _metrics(manifest),
        *_plots(name, stage),
        *_samples(stage),
        _settings(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(manifest: Manifest, circumstances: Circumstances) -> str:
    took = f"{number(manifest.cost.get('wall_s'))} s" if manifest.cost.get("wall_s") is not None else "an unknown time"
    device = f"{manifest.runtime.get('device', '')} {manifest.runtime.get('precision', '')}".strip()
    rows = [
        ("stage", escaped(manifest.stage)),
        ("recipe", escaped(circumstances.recipe)),
        ("ran because", escaped(circumstances.why)),
        ("took", f"{took} on {escaped(device)}" if device else took),
        ("key", f"`{manifest.key}`"),
        ("digest", f"`{manifest.digest}`"),
        ("made", f"{manifest.created[:19]} UTC"),
        ("licences", escaped(", ".join(sorted(set(manifest.licences.values()))))),
    ]
    return table(["", ""], [row for row in rows if row[1]])


def _inputs(manifest: Manifest, notes: Sequence[str]) -> str:
    if not manifest.inputs:
        return ""
    rows = [
        [escaped(name), f"[`{ref.key}`]({KEY_PAGE.format(key=ref.key)})", escaped(ref.part), f"`{ref.digest[:12]}`"]
        for name, ref in manifest.inputs.items()
    ]
    lines = "\n".join(f"- {escaped(note)}" for note in notes)
    return "## Inputs\n\n" + table(["input", "artifact", "part", "digest"], rows) + (f"\n\n{lines}" if lines else "")


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return ""
    return "## Metrics\n\n" + table(["metric", "value"], [[escaped(name), number(value)] for name, value in manifest.metrics.items()])


def _plots(name: str, stage: Stage) -> list[str]:
    drawn = plots({name: stage}, gather({name: stage}))
    return [f"![{escaped(title)}]({uri})" for title, uri in drawn.items() if len(uri) < LARGEST_PLOT]


def _samples(stage: Stage) -> list[str]:
    shown = samples(stage)
    return ["## Samples", *(fenced("\n".join(f"{who}: {text}" for who, text in sample.items())) for sample in shown)] if shown else []


def samples(stage: Stage) -> list[dict[str, str]]:
    """A few texts that the stage sampled, judged or compared: who -> what; empty for a stage that has none."""
    makers = {"sample": _sampled, "label": _labelled, "evaluate": _compared, "align": _rolled_out}
    found = makers[stage.name](stage) if stage.name in makers else []
    return [{who: _cut(text) for who, text in sample.items()} for sample in found[:SHOWN_ROWS]]


def _sampled(stage: Stage) -> list[dict[str, str]]:
    rows = first_rows(stage.path / "completions" / "train.parquet")
    return [{"prompt": said(row["prompt"]), **{f"answer {n}": text for n, text in enumerate(row["completions"], 1)}} for row in rows]


def _labelled(stage: Stage) -> list[dict[str, str]]:
    rows = first_rows(stage.path / "preferences" / "train.parquet")
    return [{"prompt": said(row["prompt"]), "chosen": said(row["chosen"]), "rejected": said(row["rejected"])} for row in rows]


def _compared(stage: Stage) -> list[dict[str, str]]:
    rows = stage.read("samples.json") or []
    return [{"prompt": said(row["prompt"]), "aligned": said(row["aligned"]), "sft": said(row["sft"])} for row in rows]


def _rolled_out(stage: Stage) -> list[dict[str, str]]:
    rows = rollouts({"align": stage})["samples"]
    return [{"step": str(row["step"]), "prompt": said(row["prompt"]), "answer": said(row["completion"])} for row in rows]


def first_rows(path: Path) -> list[dict[str, Any]]:
    """The first rows of a Parquet file, without reading the rest; none where there is no such file."""
    if not path.is_file():
        return []
    from pyarrow.parquet import ParquetFile

    return next((batch.to_pylist() for batch in ParquetFile(path).iter_batches(batch_size=SHOWN_ROWS)), [])


def said(value: Any) -> str:
    """A conversation or a text as text."""
    if isinstance(value, str):
        return value
    return "\n".join(message["content"] if len(value) == 1 else f"{message['role']}: {message['content']}" for message in value or [])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} [cut: {len(text)} characters]"


def _settings(manifest: Manifest) -> str:
    if not manifest.config:
        return ""
    return "## Settings\n\n" + fenced(json.dumps(manifest.config, indent=1, ensure_ascii=False, sort_keys=True))


def tables(name: str, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Tables of a stage, by title: sample generations, label statistics, evaluation. Their cells are shown as plain text."""
    stage = Stage(name, path)
    statistics = {"label": "statistics.json", "sample": "statistics.json", "evaluate": "evaluation.json"}
    found: dict[str, list[dict[str, Any]]] = {}
    if shown := samples(stage):
        found["samples"] = [dict(sample) for sample in shown]
    if name in statistics and (content := stage.read(statistics[name])):
        found["statistics" if name != "evaluate" else "evaluation"] = flat_rows(content)
    return found


def flat_rows(content: Mapping[str, Any], above: str = "") -> list[dict[str, Any]]:
    """Named figures of a nested mapping, one row each; rates keep their interval in one row, lists (histograms) are left out."""
    rows: list[dict[str, Any]] = []
    for name, value in content.items():
        place = f"{above}{name}"
        if isinstance(value, Mapping) and "low" in value:
            middle = value.get("rate", value.get("mean", value.get("win_rate")))
            rows.append({"figure": place, "value": number(middle), "from": number(value["low"]), "to": number(value["high"])})
        elif isinstance(value, Mapping):
            rows.extend(flat_rows(value, f"{place}/"))
        elif value is None or isinstance(value, int | float | str):
            rows.append({"figure": place, "value": number(value), "from": "", "to": ""})
    return rows


def overview(recipe: str, lines: Sequence[Mapping[str, Any]], links: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The page of a whole run: one line per step, then what it made and where it is.

    Args:
        recipe: Name of the recipe.
        lines: name, ran, seconds, key and metrics (text) of each step.
        links: Title -> address, of forms that run something again.
        notes: Where inputs come from, or what happened, one line each.
    """
    rows = [
        [escaped(line["name"]), "ran" if line["ran"] else "cached", f"{line['seconds']:.1f}",
         f"[`{line['key']}`]({KEY_PAGE.format(key=line['key'])})", "<br>".join(escaped(metric) for metric in line["metrics"])]
        for line in lines
    ]  # fmt: skip
    parts = [
        f"# {escaped(recipe)}",
        *(f"[{escaped(title)}]({address})" for title, address in links.items()),
        table(["stage", "", "seconds", "artifact", "key metrics"], rows),
        "\n".join(f"- {escaped(note)}" for note in notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
