"""`alignflow plan`: shows what a run would do and need, and what cannot fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.run import RecipePath, Settings, Smoke, load
from alignflow.cli.terminal import Console
from alignflow.data.configs.recipe import Recipe
from alignflow.data.estimate.place import GIB
from alignflow.data.gates import limits
from alignflow.flows.asked import asked_lines
from alignflow.flows.calls import Step
from alignflow.flows.calls import plan as plan_steps
from alignflow.flows.capacity import Estimator, StepNeed, parts_text, size
from alignflow.flows.gates import standing
from alignflow.flows.graph import nodes
from alignflow.flows.remarks import planned
from alignflow.tasks.launch.machine import Machine
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.trackers.base import check_tracker

MOST = 10_000
"""Console width for measuring the width of a table."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    recipe: RecipePath,
    settings: Settings = None,
    smoke: Smoke = False,
    estimate: Annotated[bool, typer.Option(help="Estimate memory, disk and time of each stage.")] = True,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            metavar="GIB",
            min=1,
            max=10_000,
            help="Plan for a machine that has a GPU with this much memory for each process. Its other limits count as unknown.",
        ),
    ] = None,
) -> None:
    """Show what a run would do with each stage (run, cached, after another stage, or blocked), why, and what the stage would need."""
    loaded, store, console = load(recipe, settings, smoke), ArtifactStore(for_reading=True), Console()
    check_tracker(loaded.tracking)
    machine = Machine(gpus=(int(gpu_memory * GIB),) * loaded.engine.processes) if gpu_memory else None
    gpus = len(machine.gpus) if machine else None
    steps = plan_steps(loaded, store, gpus)
    for line in (*planned(loaded, nodes(loaded)), *asked_lines(loaded, steps, store, gpus)):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if not estimate:
        print_steps(steps, [], console)
        print_gates(loaded, steps, store, console)
    else:
        estimator = Estimator(loaded, store, machine)
        needs = estimator.needs(steps)
        print_steps(steps, needs, console)
        print_gates(loaded, steps, store, console)
        console.print(footer(needs, estimator.machine, estimator.runtime.device, machine is None), highlight=False)
        for line in (line for need in needs for line in need.too_large):
            console.print(
                f"[red]too large[/red] {escape(line)}" if not line.startswith(" ") else escape(line),
                highlight=False,
                soft_wrap=True,
            )
        if any(need.too_large for need in needs):
            raise typer.Exit(2)
    if any(step.state == "blocked" for step in steps):
        raise typer.Exit(2)


def print_steps(steps: Sequence[Step], needs: Sequence[StepNeed], console: Console) -> None:
    """One line per step; with needs also memory, disk and time. Reasons that do not fit into the table are printed below it."""
    table = plan_table(steps, needs, reasons=True)
    fits = console.measure(table, options=console.options.update(max_width=MOST)).maximum <= console.width
    console.print(table if fits else plan_table(steps, needs, reasons=False))
    for step in () if fits else steps:
        if step.state in ("run", "blocked"):
            state = "blocked " if step.why.startswith("by ") else ""
            console.print(f"{step.name}: {state}{escape(step.why)}", highlight=False, soft_wrap=True)


def plan_table(steps: Sequence[Step], needs: Sequence[StepNeed], reasons: bool) -> Table:
    """One line per step; with needs also memory, disk and time."""
    table = Table("stage", "state", *(("why",) if reasons else ()), *(("memory", "disk", "time") if needs else ()))
    for number, step in enumerate(steps):
        state = f"after {step.why}" if step.state == "after" else step.state
        why = ("" if step.state == "after" else escape(step.why),) if reasons else ()
        table.add_row(step.name, state, *why, *(_cells(needs[number]) if needs else ()))
    for column in table.columns:
        column.overflow = "fold"
        if column.header in ("memory", "disk"):
            column.justify = "right"
    return table


def print_gates(recipe: Recipe, steps: Sequence[Step], store: ArtifactStore, console: Console) -> None:
    """The recipe's gates, with verdicts for steps that are in the store; nothing for a recipe without gates."""
    if not recipe.gates:
        return
    table = Table("gate", "should be", "else", "now")
    for gate, now in standing(recipe, steps, store):
        table.add_row(escape(gate.label), limits(gate), gate.action, escape(now))
    console.print(table)


def _cells(need: StepNeed) -> tuple[str, str, str]:
    memory = "unknown" if need.unknown else size(need.memory.peak.total) if need.memory else ""
    mark = " [red]too large[/red]" if need.too_large else " tight" if need.tight else ""
    return memory + mark, size(need.disk) if need.disk else "", need.time


def footer(needs: Sequence[StepNeed], machine: Machine, device: str, is_this: bool = True) -> str:
    """Lines that explain the figures, the machine's resources, and the parts of the largest need."""
    has = [f"memory {_has(machine.memory)} ({_has(machine.available)} free)", f"disk {_has(machine.free_disk)} free"]
    if device == "cuda":
        has.insert(0, "GPUs " + (", ".join(size(memory) for memory in machine.gpus) or "unknown"))
    lines = [
        f"memory is the calculated peak of one process ({device})",
        f"{'this' if is_this else 'assumed'} machine: {'; '.join(has)}",
    ]
    known = [need for need in needs if need.memory]
    if known:
        largest = max(known, key=lambda need: need.memory.peak.total if need.memory else 0)
        assert largest.memory is not None
        lines.append(f"largest: {largest.name}, {parts_text(largest.memory.peak)}")
        host = max(known, key=lambda need: need.memory.host_total if need.memory else 0)
        if host.memory is not None and host.memory.host_total:
            lines.append(
                f"besides GPU memory, {host.name} needs {size(host.memory.host_total)} of the machine's memory per process"
            )
    return "\n".join(lines)


def _has(value: int | None) -> str:
    return "unknown" if value is None else size(value)
