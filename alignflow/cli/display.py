"""The terminal's view of a run: one live line per stage, then a table."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from alignflow.cli.terminal import Console
from alignflow.data.adapters import is_adapter
from alignflow.data.gates import GateRecord, finding
from alignflow.data.number_text import number_text
from alignflow.data.report.metrics import key_metrics
from alignflow.data.reward_ensembles import is_ensemble
from alignflow.data.step_names import RESULTS, base_of
from alignflow.flows.pipeline import Outcome
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.store.artifact_store import SHORT_KEY, ArtifactStore

PLAIN_EVERY_S = 20.0
TENSORBOARD = "tensorboard"
"""The folder in an artifact's `side/` to which a training writes its event files."""
MODELS = {"sft": "fine-tuned model", "reward": "reward model", "align": "aligned model", "merge": "aligned model"}
"""Step -> the name of its model at the end of a run."""

VERDICT_COLOURS = {"passed": "green", "warned": "yellow", "approved": "yellow", "ended": "cyan"}


class Display:
    """A live line on a terminal; plain lines if the output is a file or a pipe."""

    def __init__(self, console: Console, total: int):
        self.console, self.total = console, total
        self._number, self._started, self._printed = 0, 0.0, 0.0
        self._live: Live | None = None
        self._name = ""
        self.running: StageCall | None = None
        self.ended = ""
        self.verdicts: list[GateRecord] = []

    def starts(self, call: StageCall, why: str) -> None:
        """A step starts."""
        self._number += 1
        self.running = call
        self._name, self._started, self._printed = call.name, time.monotonic(), time.monotonic()
        self.console.print(f"[bold]{call.name}[/bold]  runs: {escape(why)}", highlight=False)
        if self.console.is_terminal:
            self._live = Live(self._line({}), console=self.console, refresh_per_second=8, transient=True)
            self._live.start()

    def progress(self, name: str, state: dict[str, Any]) -> None:
        """Show the progress of the running step, or its note."""
        if "note" in state:
            self.console.print(f"  {name}: {state['note']}", highlight=False, soft_wrap=True, markup=False)
        elif self._live:
            self._live.update(escape(self._line(state)))
        elif "waits" in state or time.monotonic() - self._printed > PLAIN_EVERY_S:
            self._printed = time.monotonic()
            self.console.print("  " + escape(self._line(state)), highlight=False)

    def ends(self, outcome: Outcome) -> None:
        """A step is done, or was in the store."""
        self.running, self.ended = None, outcome.name
        self.stop()
        mark = f"[green]ran[/green] in {outcome.seconds:.1f} s" if outcome.ran else "[cyan]cached[/cyan]"
        self.console.print(f"[bold]{outcome.name}[/bold]  {mark}", highlight=False)

    def repairs(self, name: str, why: str) -> None:
        """An artifact was damaged; the step that makes it runs again."""
        self.stop()
        self.console.print(
            f"[yellow]{name} was damaged and runs again[/yellow]: {escape(' '.join(why.split()))}", highlight=False
        )

    def gates(self, record: GateRecord) -> None:
        """A gate passed or failed."""
        self.verdicts.append(record)
        colour = VERDICT_COLOURS.get(record.verdict, "red")
        self.console.print(
            f"  gate {escape(gate_line(record))}: [{colour}]{record.verdict}[/{colour}]", highlight=False
        )

    def remarks(self, text: str) -> None:
        """Print a remark about the recipe's data."""
        self.stop()
        self.console.print(f"  {text}", style="yellow", highlight=False, soft_wrap=True, markup=False)

    def stop(self) -> None:
        """Remove the live line."""
        if self._live:
            self._live.stop()
            self._live = None

    def _line(self, state: dict[str, Any]) -> str:
        elapsed = time.monotonic() - self._started
        if not state:
            return f"{self._name}: starting"
        if "waits" in state:
            return f"{self._name} waits: {state['waits']}"
        figures = " ".join(f"{name} {number_text(value)}" for name, value in state.get("figures", {}).items())
        left = f", {state['left_s']:.0f} s left" if state.get("left_s") is not None else ""
        return f"{self._name}: {state['done']}/{state['total']} {state['unit']}, {elapsed:.0f} s{left}  {figures}"


def gate_line(record: GateRecord) -> str:
    """A gate, what it measured, and who approved the run despite it."""
    who = f" (approved by {record.who})" if record.verdict == "approved" else ""
    return f"{record.gate}: {finding(record, record.value)}{who}"


def final_table(outcomes: list[Outcome], store: ArtifactStore) -> Table:
    """Stage, cached or ran, seconds, key metrics."""
    table = Table("stage", "", "seconds", "key metrics", title=None, title_justify="left")
    table.columns[2].justify = "right"
    for outcome in outcomes:
        manifest = store.manifest(outcome.ref.key)
        table.add_row(
            outcome.name,
            "ran" if outcome.ran else "cached",
            f"{outcome.seconds:.1f}",
            escape("\n".join(key_metrics(outcome.name, manifest))),
        )
    return table


def result_paths(outcomes: list[Outcome], store: ArtifactStore) -> dict[str, Path]:
    """Where to find the results: preference data, report, and the run's best model (aligned, or else the
    reward model, or else fine-tuned) last."""
    refs = {base_of(outcome.name): outcome.ref for outcome in outcomes}  # of several rounds, the last
    paths = {}
    if "label" in refs:
        paths["preference data"] = store.payload(refs["label"]) / "preferences"
    if "report" in refs:
        paths["report"] = store.directory(refs["report"].key) / "side" / "report.html"
    for step in reversed(RESULTS):  # a merged model replaces the aligned one
        if step in refs and (step != "sft" or not {"merge", "align"} & refs.keys()):
            paths[MODELS[step]] = store.payload(refs[step])
    return paths


def tensorboard_lines(outcomes: list[Outcome], store: ArtifactStore) -> list[str]:
    """The command that shows the curves of a run in TensorBoard; empty if no step wrote event files."""
    folders = {outcome.name: store.directory(outcome.ref.key) / "side" / TENSORBOARD for outcome in outcomes}
    there = {name: folder for name, folder in folders.items() if folder.is_dir()}
    if not there:
        return []
    named = ",".join(f"{name}:{folder}" for name, folder in there.items())
    return [f"curves: {shlex.join(['tensorboard', f'--logdir_spec={named}'])}"]


def loading_lines(paths: Mapping[str, Path]) -> list[str]:
    """How to use a run's best model: a command for any model that generates, and Python for a whole model.

    transformers cannot load an adapter alone, so the command that merges it into its base replaces the Python line.
    """
    name, path = [("", Path()), *paths.items()][-1]
    if not name.endswith("model"):
        return []
    key = path.parent.name[: path.parent.name.rfind("-") + 1 + SHORT_KEY]
    if is_adapter(path):
        load = f"alignflow export {key} merged  (the adapter and its base as one model)"
    elif is_ensemble(path):
        load = f"alignflow export {key} members  (each reward model of the ensemble)"
    else:
        kind = "SequenceClassification" if name == "reward model" else "CausalLM"
        load = f'transformers.AutoModelFor{kind}.from_pretrained("{path}")'
    chat = [f"talk to it: alignflow chat {key}"] if name != "reward model" else []
    return [f"load it: {load}", *chat]
