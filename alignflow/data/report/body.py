"""The stage body `report`: report.json without times as the payload, report.html beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignflow.data.artifacts import Manifest, artifact_of, checked_manifest, file_digest, verify_file
from alignflow.data.configs.generation import ReportConfig
from alignflow.data.number_text import number_text
from alignflow.data.printable import printable
from alignflow.data.report.headline import headline, model_path, ran_with, warnings_of
from alignflow.data.report.heat_maps import heat_maps
from alignflow.data.report.judge_page import fit_lines, judge_plots, judge_rows
from alignflow.data.report.lineage import lineage_picture
from alignflow.data.report.metrics import with_intervals
from alignflow.data.report.plots import PANELS, bars_plot, curve_plot, histogram_plot, interval_plot
from alignflow.data.report.rounds import rounds_table
from alignflow.data.report.samples import by_kind, choice_text, verdict_rows
from alignflow.data.run import Run, write_json
from alignflow.data.step_names import base_and_round

CURVES = {
    "sft": ("loss", "mean_token_accuracy", "nll_loss", "l1_penalty"),
    "reward": ("loss", "accuracy", "margin"),
    "align": (
        "loss",
        "rewards/accuracies",
        "rewards/margins",
        "rewards/chosen",
        "rewards/rejected",
        "logps/chosen",
        "kl",
        "objective/scores",
        "objective/heldout_judge",
        "objective/kl",
        "policy/entropy_avg",
        "completions/mean_length",
        "completions/repetition",
        "policy/clipfrac_avg",
        "val/explained_variance",
    ),
}
"""Figures that are drawn, as far as a stage has them."""
SHOWN_SAMPLES = 3
COST = ("wall_s", "cpu_s", "gpu_s", "tokens", "tokens_per_s", "peak_memory_mb")


def report(config: ReportConfig, *, steps: Mapping[str, Path], run: Run) -> dict[str, float | None]:
    """Gather what the steps of a run left behind; a step that the run did not have leaves its section out.

    Args:
        config: The heading of the page, and which steps the run found in the store.
        steps: Step -> payload of its artifact, in the order of the run.
        run: Where the report is written.
    """
    finished = [FinishedStep(name, path) for name, path in steps.items()]
    facts = gather(finished)
    write_json(run.out / "report.json", facts)
    (run.side / "report.html").write_text(render(config.title, finished, facts, config.found), encoding="utf-8")
    for step in finished:
        for file in step.left_out:
            run.note(
                f"{file} beside {step.name} changed on disk: the page is without it; `--force {step.name}` makes it again"
            )
    return {"stages": float(len(finished))}


class FinishedStep:
    """One finished step as the report reads it; outside a store it has files but no manifest.

    Attributes:
        name: What the run calls it: `align.2`.
        base: Its name without the round.
        round: Which time the run did it; 0 where the run did it once.
        path: Its payload.
        manifest: Its manifest, with stage, key and metrics.
        left_out: Files beside the artifact that changed on disk.
    """

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path
        self.base, self.round = base_and_round(name)
        artifact = artifact_of(path)
        self.manifest: Manifest | None = checked_manifest(artifact) if artifact else None
        self.left_out: list[str] = []
        self.side = artifact / "side" if artifact else None

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Those of its manifest; none where it has no manifest."""
        return self.manifest.metrics if self.manifest else {}

    @property
    def statistics(self) -> Any:
        """What it counted or measured, beyond its metrics; None for a step that writes no such file."""
        return self.read(STATISTICS[self.base]) if self.base in STATISTICS else None

    @property
    def judges(self) -> list[dict[str, Any]]:
        """The judge reports that it left; none for a step that asked no judge, or that an older alignflow made."""
        found = self.read("judge_report.json")
        return found["reports"] if found else []

    def read(self, file: str) -> Any:
        """A JSON file of the payload; None where it has none. Raises DamagedArtifactError."""
        path = self.path / file
        if path.is_file():
            verify_file(path)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def curves(self) -> list[dict[str, float]]:
        """Points of the training curves."""
        return self.lines("curves")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Lines of a file beside the artifact: curves, alarms, samples.

        None where it has no such file, and where the file changed on disk: `left_out` names that one.
        """
        path = self.side / f"{name}.jsonl" if self.side else None
        if path is None or not path.is_file():
            return []
        expected = self.manifest.side.get(path.name) if self.manifest else None
        try:
            if expected is not None and file_digest(path) != expected:
                raise ValueError
            return [json.loads(line) for line in path.read_text().splitlines()]
        except ValueError:  # an older manifest has no digest of it
            if path.name not in self.left_out:
                self.left_out.append(path.name)
            return []


STATISTICS = {
    "prepare": "statistics.json",
    "sample": "statistics.json",
    "label": "statistics.json",
    "merge": "merge.json",
    "evaluate": "evaluation.json",
}
"""Step -> the file of its payload that says more than its metrics."""


def last_of(steps: Sequence[FinishedStep], base: str) -> FinishedStep | None:
    """The last round of a step; None where the run did not have it."""
    return next((step for step in reversed(steps) if step.base == base), None)


def gather(steps: Sequence[FinishedStep]) -> dict[str, Any]:
    """Everything about a run that depends neither on time nor on the machine.

    `data`, `labels`, `evaluation` and `samples` are those of the last round; a step that has a round has its own under `stages` too.
    """
    licences: dict[str, str] = {}
    for step in steps:
        licences |= step.manifest.licences if step.manifest else {}
    data, labels, evaluation = (last_of(steps, base) for base in ("prepare", "label", "evaluate"))
    merged = last_of(steps, "merge")
    rounds = rounds_table((step.base, step.round, step.metrics) for step in steps)
    return {
        "stages": {step.name: _facts(step, step.manifest) for step in steps if step.manifest},
        "licences": licences,
        "data": data.statistics if data else None,
        "labels": labels.statistics if labels else None,
        "judges": {step.name: step.judges for step in steps if step.judges},
        "evaluation": evaluation.statistics if evaluation else None,
        "samples": evaluation.read("samples.json") if evaluation else None,
        **({"rounds": rounds} if rounds else {}),
        **({"merge": merged.statistics} if merged else {}),
    }


def _facts(step: FinishedStep, manifest: Manifest) -> dict[str, Any]:
    facts = {
        "stage": manifest.stage,
        "kind": manifest.kind,
        "key": manifest.key,
        "digest": manifest.digest,
        "metrics": manifest.metrics,
        "warnings": manifest.warnings,
        "versions": manifest.versions,
        "runtime": {field: manifest.runtime.get(field) for field in ("device", "precision", "engine", "generator")},
        "seed": manifest.seed,
        "inputs": {input_name: ref.key for input_name, ref in manifest.inputs.items()},
    }
    return {**facts, "round": step.round, "statistics": step.statistics} if step.round else facts


def render(title: str, steps: Sequence[FinishedStep], facts: dict[str, Any], found: Sequence[str] = ()) -> str:
    """The page: model output is escaped, and nothing is loaded from anywhere. `found`: steps that the run found in the store."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, finalize=shown
    )
    environment.filters["number"] = number_text
    environment.globals["with_intervals"] = with_intervals
    prepared = last_of(steps, "prepare")
    costs = {step.name: {field: step.manifest.cost.get(field) for field in COST} for step in steps if step.manifest}
    evaluated = [step for step in steps if step.base == "evaluate"]
    last = {step.base: step for step in steps}
    return environment.get_template("page.html.j2").render(
        title=title,
        headline=headline(last, facts["evaluation"]),
        ran_with=ran_with(last),
        model=model_path(last),
        warnings=warnings_of(steps),
        facts=facts,
        rows=prepared.read("samples.json") if prepared else None,
        costs=costs,
        cost_fields=COST,
        plots={step.name: plots(step) for step in steps},
        steps=steps,
        evaluations=[(step, step.statistics, _samples(step)) for step in evaluated if step.statistics],
        lineage=lineage_picture(steps, found),
        heat_maps={
            step.name: {
                "answers": heat_maps(step.statistics["token_credit"]["answers"]),
                "without": step.statistics["token_credit"]["answers_without_tokens"],
            }
            for step in evaluated
            if step.statistics and "token_credit" in step.statistics
        },
        labellings=[(step, step.statistics) for step in steps if step.base == "label" and step.statistics],
        judges=[
            (step, [(report, judge_rows(report), judge_plots(report), fit_lines(report)) for report in step.judges])
            for step in steps
            if step.judges
        ],
        rollouts={step.name: rollouts(step) for step in steps if step.base == "align"},
        created={step.name: step.manifest.created for step in steps if step.manifest},
    )


def _samples(step: FinishedStep) -> dict[str, Any] | None:
    """The samples of an evaluation as the page shows them; None where it kept none."""
    samples, statistics = step.read("samples.json"), step.statistics
    if not samples:
        return None
    groups = [(title, [(sample, verdict_rows(sample)) for sample in of_kind]) for title, of_kind in by_kind(samples)]
    return {"choice": choice_text(statistics.get("samples"), statistics.get("win_rate", {})), "groups": groups}


def rollouts(step: FinishedStep) -> dict[str, list[dict[str, Any]]]:
    """Alarms of a training that sampled, and its first and last answers; empty for one that did not."""
    samples = step.lines("samples")
    numbers = sorted({sample["step"] for sample in samples})
    ends = [
        [sample for sample in samples if sample["step"] == number][:SHOWN_SAMPLES]
        for number in dict.fromkeys([*numbers[:1], *numbers[-1:]])
    ]
    return {"alarms": step.lines("alarms"), "samples": [sample for end in ends for sample in end]}


def alarm_marks(step: FinishedStep) -> dict[int, str]:
    """Optimizer step -> the names of the alarms that rang at it."""
    marks: dict[int, str] = {}
    for line in step.lines("alarms"):
        marks[line["step"]] = f"{marks[line['step']]}, {line['alarm']}" if line["step"] in marks else line["alarm"]
    return marks


def plots(step: FinishedStep, panels: int = PANELS) -> dict[str, str]:
    """Data URIs of the plots of a step, by name; those without data are left out. Curves have `panels` in a row."""
    found = {}
    points = step.curves() if step.base in CURVES else []
    if points:
        found["curves"] = curve_plot(step.name, points, CURVES[step.base], alarm_marks(step), panels)
    labels = step.statistics if step.base == "label" else None
    evaluation = step.statistics if step.base == "evaluate" else None
    if labels and isinstance(labels.get("principles"), dict) and labels["principles"]:
        found["principles"] = bars_plot("Mean score of each principle", labels["principles"], "score, 0 to 1")
    if labels and labels.get("soft_label", {}).get("histogram"):
        found["margins"] = histogram_plot("Soft labels of the kept pairs", labels["soft_label"]["histogram"])
    if evaluation and evaluation.get("win_rate"):
        rates = {
            name: (judge["win_rate"], judge["low"], judge["high"]) for name, judge in evaluation["win_rate"].items()
        }
        found["win_rates"] = interval_plot("Win rate of the aligned model against SFT", rates)
    return found


def shown(value: Any) -> Any:
    """What the page writes for a value: a text cannot turn the reading direction."""
    return type(value)(printable(value)) if isinstance(value, str) else value
