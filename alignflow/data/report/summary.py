"""What a person sees of one stage on the server's page: a summary in Markdown, and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alignflow.data.artifacts import Manifest, verify_file
from alignflow.data.gates import GateRecord, limits
from alignflow.data.number_text import number_text
from alignflow.data.printable import printable
from alignflow.data.report.body import STATISTICS, FinishedStep, plots, rollouts
from alignflow.data.report.judge_page import judge_markdown, judge_plots, judge_rows
from alignflow.data.report.markdown import escaped, fenced, table
from alignflow.data.report.samples import verdict_rows
from alignflow.data.report.settings import changed_settings, default_settings
from alignflow.data.tools import from_columns, told

LARGEST_PLOT = 200_000
"""Characters of a plot's data URI; a larger one is left out."""
SHOWN_ROWS = 5
LONGEST_TEXT = 2000
SHOWN_OF_KEY = 12
"""Digits of a key that its page is called by: whole ones are too long for the cards and tables of the server's pages."""
SHOWN_OF_DIGEST = 16
AS_EXPECTED = "as the recipe says"
PANELS = 2
"""Panels of a plot in one row: the column of a page is narrow."""


@dataclass(frozen=True)
class Circumstances:
    """How a stage came to be run.

    Attributes:
        recipe: Name of the recipe.
        why: Why it ran; empty where it was found.
        seconds: How long it took here.
        notes: Where its inputs come from, one line each.
        again: Address of the form that runs it again with these parameters; empty for none.
        pages: Key of an artifact -> address of its page, as far as there are pages.
        gates: What the gates of the run have said so far.
        report: Where the whole report of the run is, for the stage that writes it.
    """

    recipe: str = ""
    why: str = ""
    seconds: float = 0.0
    notes: Sequence[str] = field(default_factory=tuple)
    again: str = ""
    pages: Mapping[str, str] = field(default_factory=dict)
    gates: Sequence[GateRecord] = ()
    report: str = ""


def page_key(key: str) -> str:
    """What the page of an artifact is called: its key, short enough to be read."""
    stage, _, digits = key.rpartition("-")
    return f"{stage}-{digits[:SHOWN_OF_KEY]}"


def linked(key: str, pages: Mapping[str, str]) -> str:
    """The short key of an artifact, as a link where it has a page."""
    return f"[`{page_key(key)}`]({pages[key]})" if key in pages else f"`{page_key(key)}`"


def stage_page(name: str, manifest: Manifest, path: Path, circumstances: Circumstances) -> str:
    """The page of one artifact: what ran, from what, what came of it; everything that is not ours is escaped.

    Args:
        name: The step that it was made for.
        manifest: Its manifest.
        path: Its payload.
        circumstances: How it came to be run.
    """
    step = FinishedStep(name, path)
    parts = [
        f"# {escaped(name)}",
        _what(manifest, circumstances),
        *(f"- **Warning:** {escaped(warning)}" for warning in manifest.warnings),
        f"[Run {name} again with these parameters]({circumstances.again})" if circumstances.again else "",
        f"The whole report: {escaped(circumstances.report)}" if circumstances.report else "",
        _inputs(manifest, circumstances),
        gates_table(circumstances.gates),
        *_judges(step),
        *_plots(step),
        _metrics(manifest),
        *_samples(step),
        _settings(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(manifest: Manifest, circumstances: Circumstances) -> str:
    took = (
        f"{number_text(manifest.cost.get('wall_s'))} s"
        if manifest.cost.get("wall_s") is not None
        else "an unknown time"
    )
    device = f"{manifest.runtime.get('device', '')} {manifest.runtime.get('precision', '')}".strip()
    rows = [
        ("stage", escaped(manifest.stage)),
        ("recipe", escaped(circumstances.recipe)),
        ("ran because", escaped(circumstances.why)),
        ("took", f"{took} on {escaped(device)}" if device else took),
        ("key", f"`{manifest.key}`"),
        ("digest", f"`{manifest.digest[:SHOWN_OF_DIGEST]}`"),
        ("made", f"{manifest.created[:19]} UTC"),
        ("licences", escaped(", ".join(sorted(set(manifest.licences.values()))))),
    ]
    return table(["", ""], [row for row in rows if row[1]])


def _inputs(manifest: Manifest, circumstances: Circumstances) -> str:
    if not manifest.inputs:
        return ""
    rows = []
    for name, ref in manifest.inputs.items():
        why = next((note.partition(f"{ref.key}, ")[2] for note in circumstances.notes if f" {ref.key}, " in note), "")
        rows.append([escaped(name), linked(ref.key, circumstances.pages), escaped(ref.part), escaped(why)])
    return "## Inputs\n\n" + table(["input", "artifact", "part", "taken because"], rows)


def gates_table(records: Sequence[GateRecord]) -> str:
    """What the gates of a run said, one line each; empty where there are none."""
    if not records:
        return ""
    rows = [
        [
            escaped(record.gate),
            "not measured" if record.value is None else number_text(record.value),
            limits(record),
            f"**{record.verdict}**" + (f" by {escaped(record.who)}" if record.who else ""),
            escaped(record.comment),
        ]
        for record in records
    ]
    return "## Gates\n\n" + table(["gate", "measured", "should be", "verdict", "comment"], rows)


def _metrics(manifest: Manifest) -> str:
    if not manifest.metrics:
        return ""
    return "## Metrics\n\n" + table(
        ["metric", "value"], [[escaped(name), number_text(value)] for name, value in manifest.metrics.items()]
    )


def _plots(step: FinishedStep) -> list[str]:
    drawn = plots(step, PANELS)
    for report in step.judges if len(step.judges) == 1 else ():
        drawn |= judge_plots(report)
    return [f"![{escaped(title)}]({uri})" for title, uri in drawn.items() if len(uri) < LARGEST_PLOT]


def _judges(step: FinishedStep) -> list[str]:
    """The report of the step's judge; of several recorded ones a line each, since a page of many reports is read by nobody."""
    if len(step.judges) <= 1:
        return [judge_markdown(report) for report in step.judges]
    rows = [[escaped(report["judge"]), escaped(report["conclusion"]["text"])] for report in step.judges]
    return ["## Judges\n\n" + table(["judge", "verdict"], rows)]


def _samples(step: FinishedStep) -> list[str]:
    shown = samples(step)
    return (
        ["## Samples", *(fenced("\n".join(f"{who}: {text}" for who, text in sample.items())) for sample in shown)]
        if shown
        else []
    )


def samples(step: FinishedStep) -> list[dict[str, str]]:
    """A few texts that the step sampled, judged or compared: who -> what; empty for a step that has none."""
    makers = {"sample": _sampled, "label": _labelled, "evaluate": _compared, "align": _rolled_out}
    found = makers[step.base](step) if step.base in makers else []
    return [{who: _cut(text) for who, text in sample.items()} for sample in found[:SHOWN_ROWS]]


def _sampled(step: FinishedStep) -> list[dict[str, str]]:
    rows = first_rows(step.path / "completions" / "train.parquet")
    return [
        {"prompt": said(row["prompt"]), **{f"answer {n}": text for n, text in enumerate(row["completions"], 1)}}
        for row in rows
    ]


def _labelled(step: FinishedStep) -> list[dict[str, str]]:
    rows = first_rows(step.path / "preferences" / "train.parquet")
    return [
        {"prompt": said(row["prompt"]), "chosen": said(row["chosen"]), "rejected": said(row["rejected"])}
        for row in rows
    ]


def _compared(step: FinishedStep) -> list[dict[str, str]]:
    rows = step.read("samples.json") or []
    return [
        {
            "prompt": said(row["prompt"]),
            "aligned": said(row["aligned"]),
            "sft": said(row["sft"]),
            **{found["who"]: found["verdict"] for found in verdict_rows(row)},
        }
        for row in rows
    ]


def _rolled_out(step: FinishedStep) -> list[dict[str, str]]:
    rows = rollouts(step)["samples"]
    return [
        {"step": str(row["step"]), "prompt": said(row["prompt"]), "answer": said(row["completion"])} for row in rows
    ]


def first_rows(path: Path) -> list[dict[str, Any]]:
    """The first rows of a Parquet file, without reading the rest; none where there is no such file."""
    if not path.is_file():
        return []
    verify_file(path)
    from pyarrow.parquet import ParquetFile

    rows: list[dict[str, Any]] = next(
        (batch.to_pylist() for batch in ParquetFile(path).iter_batches(batch_size=SHOWN_ROWS)), []
    )
    return [from_columns(row) for row in rows]


def said(value: Any) -> str:
    """A conversation or a text as text."""
    if isinstance(value, str):
        return value
    return "\n".join(
        told(message) if len(value) == 1 else f"{message['role']}: {told(message)}" for message in value or []
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} [cut: {len(text)} characters]"


def _settings(manifest: Manifest) -> str:
    """What was set, and what was left as it is by default."""
    changed = changed_settings(manifest)
    left = [f"{escaped(name)} `{_setting(value)}`" for name, value in default_settings(manifest).items()]
    if not changed and not left:
        return ""
    parts = [
        table(["setting", "value"], [[escaped(name), escaped(_setting(value))] for name, value in changed.items()])
        if changed
        else "",
        f"As by default: {', '.join(left)}" if left else "",
    ]
    return "\n\n".join(["## Settings", *(part for part in parts if part)])


def _setting(value: Any) -> str:
    if value == {}:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


TABULATED = ("sample", "label", "evaluate")
"""Steps whose statistics are a table of a page; those of `prepare` are in the report."""
FIRST = ("win_rate", "judged", "pairs", "ties")
"""Start of the figures that head a table; quantiles end it."""


def tables(name: str, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Tables of a stage, by title: sample generations, label statistics, evaluation. Their cells are shown as plain text."""
    step = FinishedStep(name, path)
    found: dict[str, list[dict[str, Any]]] = {}
    if shown := samples(step):  # one text per row: the cells of a page do not wrap
        found["samples"] = [
            {"sample": n, "what": who, "text": printable(text)}
            for n, sample in enumerate(shown, 1)
            for who, text in sample.items()
        ]
    for report in step.judges[:1]:
        found["judge"] = [{name: printable(cell) for name, cell in row.items()} for row in judge_rows(report)]
    if step.base in TABULATED and (content := step.statistics):
        found[STATISTICS[step.base].removesuffix(".json")] = sorted(flat_rows(content), key=_rank)
    return found


def _rank(row: Mapping[str, Any]) -> int:
    figure = row["figure"]
    return 0 if figure.startswith(FIRST) else 2 if "quantiles" in figure else 1


def flat_rows(content: Mapping[str, Any], above: str = "") -> list[dict[str, Any]]:
    """Named figures of a nested mapping, one row each; rates keep their interval in one row, lists (histograms) are left out."""
    rows: list[dict[str, Any]] = []
    for name, value in content.items():
        place = (
            f"{above}{name.removeprefix(above)}"  # some files repeat the name of the part in the names of its figures
        )
        if isinstance(value, Mapping) and "low" in value:
            middle = value.get("rate", value.get("mean", value.get("win_rate")))
            rows.append(
                {
                    "figure": place,
                    "value": number_text(middle),
                    "from": number_text(value["low"]),
                    "to": number_text(value["high"]),
                }
            )
        elif isinstance(value, Mapping):
            rows.extend(flat_rows(value, f"{place}/"))
        elif value is None or isinstance(value, int | float | str):
            rows.append({"figure": printable(place), "value": printable(number_text(value)), "from": "", "to": ""})
    return rows


def overview(
    recipe: str,
    lines: Sequence[Mapping[str, Any]],
    links: Mapping[str, str],
    notes: Sequence[str] = (),
    gates: Sequence[GateRecord] = (),
    pages: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page of a whole run: one line per step, what gates said, then what else happened.

    Args:
        recipe: Name of the recipe.
        lines: name, ran, seconds, key and metrics (text) of each step.
        links: Title -> address, of forms that run something again.
        notes: Where inputs come from, or what happened, one line each.
        gates: What the gates said, in the order of the run.
        pages: Key of an artifact -> address of its page, as far as there are pages.
    """
    rows = [
        [
            linked(line["key"], pages),
            "ran" if line["ran"] else "cached",
            f"{line['seconds']:.1f}",
            "<br>".join(escaped(metric) for metric in line["metrics"]),
        ]
        for line in lines
    ]
    told = [note for note in notes if not note.endswith(AS_EXPECTED)]
    parts = [
        f"# {escaped(recipe)}",
        *(f"[{escaped(title)}]({address})" for title, address in links.items()),
        table(["artifact", "", "seconds", "key metrics"], rows),
        gates_table(gates),
        "\n".join(["## Notes\n", *(f"- {escaped(note)}" for note in told)]) if told else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
