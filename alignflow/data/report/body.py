"""The stage body `report`: report.json without times as the payload, report.html beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignflow.data.artifacts import Manifest, artifact_of, checked_manifest, file_digest, verify_file
from alignflow.data.configs.generation import ReportConfig
from alignflow.data.printable import printable
from alignflow.data.report.plots import PANELS, bars_plot, curve_plot, histogram_plot, interval_plot
from alignflow.data.run import Run, write_json

CURVES = {
    "sft": ("loss", "mean_token_accuracy"),
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


def report(  # noqa: PLR0913 (an input of the stage each)
    config: ReportConfig,
    *,
    init: Path | None = None,
    prepare: Path | None = None,
    sft: Path | None = None,
    sample: Path | None = None,
    label: Path | None = None,
    reward: Path | None = None,
    reference: Path | None = None,
    align: Path | None = None,
    evaluate: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Gather what the stages of a run left behind; a stage that the run did not have leaves its section out."""
    given = {
        "init": init,
        "prepare": prepare,
        "sft": sft,
        "sample": sample,
        "label": label,
        "reward": reward,
        "reference": reference,
        "align": align,
        "evaluate": evaluate,
    }
    stages = {name: Stage(name, path) for name, path in given.items() if path is not None}
    facts = gather(stages)
    write_json(run.out / "report.json", facts)
    (run.side / "report.html").write_text(render(config.title, stages, facts), encoding="utf-8")
    for name, stage in stages.items():
        for file in stage.left_out:
            run.note(f"{file} beside {name} changed on disk: the page is without it; `--force {name}` makes it again")
    return {"stages": float(len(stages))}


class Stage:
    """One finished stage as the report reads it; outside a store it has files but no manifest."""

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path
        artifact = artifact_of(path)
        self.manifest: Manifest | None = checked_manifest(artifact) if artifact else None
        self.left_out: list[str] = []  # files beside the artifact that changed on disk
        self.side = artifact / "side" if artifact else None

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


def gather(stages: dict[str, Stage]) -> dict[str, Any]:
    """Everything about a run that depends neither on time nor on the machine."""
    manifests = {name: stage.manifest for name, stage in stages.items() if stage.manifest}
    licences: dict[str, str] = {}
    for manifest in manifests.values():
        licences |= manifest.licences
    return {
        "stages": {
            name: {
                "stage": manifest.stage,
                "kind": manifest.kind,
                "key": manifest.key,
                "digest": manifest.digest,
                "metrics": manifest.metrics,
                "warnings": manifest.warnings,
                "versions": manifest.versions,
                "runtime": {
                    field: manifest.runtime.get(field) for field in ("device", "precision", "engine", "generator")
                },
                "seed": manifest.seed,
                "inputs": {input_name: ref.key for input_name, ref in manifest.inputs.items()},
            }
            for name, manifest in manifests.items()
        },
        "licences": licences,
        "data": stages["prepare"].read("statistics.json") if "prepare" in stages else None,
        "labels": stages["label"].read("statistics.json") if "label" in stages else None,
        "evaluation": stages["evaluate"].read("evaluation.json") if "evaluate" in stages else None,
        "samples": stages["evaluate"].read("samples.json") if "evaluate" in stages else None,
    }


def render(title: str, stages: dict[str, Stage], facts: dict[str, Any]) -> str:
    """The page: model output is escaped, and nothing is loaded from anywhere."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, finalize=shown
    )
    environment.filters["number"] = number
    rows = stages["prepare"].read("samples.json") if "prepare" in stages else None
    costs = {
        name: {field: stage.manifest.cost.get(field) for field in COST}
        for name, stage in stages.items()
        if stage.manifest
    }
    return environment.get_template("page.html.j2").render(
        title=title,
        facts=facts,
        rows=rows,
        costs=costs,
        cost_fields=COST,
        plots=plots(stages, facts),
        rollouts=rollouts(stages),
        created={name: stage.manifest.created for name, stage in stages.items() if stage.manifest},
    )


def rollouts(stages: dict[str, Stage]) -> dict[str, list[dict[str, Any]]]:
    """Alarms of a training that sampled, and its first and last answers; empty for one that did not."""
    if "align" not in stages:
        return {"alarms": [], "samples": []}
    samples = stages["align"].lines("samples")
    steps = sorted({sample["step"] for sample in samples})
    ends = [
        [sample for sample in samples if sample["step"] == step][:SHOWN_SAMPLES]
        for step in dict.fromkeys([*steps[:1], *steps[-1:]])
    ]
    return {"alarms": stages["align"].lines("alarms"), "samples": [sample for end in ends for sample in end]}


def alarm_marks(stage: Stage) -> dict[int, str]:
    """Step -> the names of the alarms that rang at it."""
    marks: dict[int, str] = {}
    for line in stage.lines("alarms"):
        marks[line["step"]] = f"{marks[line['step']]}, {line['alarm']}" if line["step"] in marks else line["alarm"]
    return marks


def plots(stages: dict[str, Stage], facts: dict[str, Any], panels: int = PANELS) -> dict[str, str]:
    """Data URIs of the plots, by name; those without data are left out. Curves have `panels` in a row."""
    found = {}
    for name, wanted in CURVES.items():
        points = stages[name].curves() if name in stages else []
        if points:
            found[f"curves_{name}"] = curve_plot(name, points, wanted, alarm_marks(stages[name]), panels)
    labels, evaluation = facts["labels"], facts["evaluation"]
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


def number(value: Any) -> str:
    """A figure for people: four significant digits, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
