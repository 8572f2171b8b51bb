"""What a stage body is given besides its config and inputs: where to write, on what to run, how to report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Runtime(BaseModel):
    """The resolved place of computation: chosen by a fixed rule before the stage starts, recorded in its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 is autocast: fp32 weights, bf16 products
    engine: Literal["torch", "deepspeed"] = "torch"  # training
    generator: str = "transformers"  # sampling and judging
    secret_blocks: tuple[str, ...] = ()  # names of Secret blocks whose content the process gets as variables
    proxies: bool = False  # whether it asks another machine, and gets the addresses of proxies
    threads: int = 1  # CPU threads of the child
    micro_batch_tokens: int = 8192  # tokens of one forward pass; changes results by rounding only
    zero_stage: int = 1  # 1-3
    offload: Literal["none", "optimizer", "all"] = "none"  # what DeepSpeed keeps in CPU memory
    processes: int = 1  # training processes per node
    nodes: int = 1
    node_rank: int = 0
    rendezvous: str | None = None  # HOST:PORT of node 0
    environment: tuple[str, ...] = ()  # names of variables that the process gets beside the usual ones
    gpu: str = (
        ""  # the only GPU that the process may see, as CUDA_VISIBLE_DEVICES names it; empty: those that it sees anyway
    )

    @property
    def gathers(self) -> bool:
        """Whether models that learn are partitioned among the processes and gathered module by module: DeepSpeed's ZeRO 3."""
        return self.engine == "deepspeed" and self.zero_stage == 3

    @property
    def world_size(self) -> int:
        """Training processes on all nodes together."""
        return self.processes * self.nodes


class Share(BaseModel):
    """Which of a stage's missing rows a process computes that is one of several: every `of`-th batch of one common plan.

    Attributes:
        number: Its place among the processes, from 0.
        of: How many processes there are.
        known: A JSON list of the files that the row journal had when the processes were planned: what is missing must be the
            same for all of them, whatever the others commit meanwhile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    of: int = Field(ge=1)
    known: Path

    def known_files(self) -> list[str]:
        """Names of the journal's files at the time of the plan."""
        names: list[str] = json.loads(self.known.read_text())
        return names


@dataclass
class Run:
    """Paths, runtime and reporting for a stage body.

    Attributes:
        out: Payload directory. Only what is written here is digested, so no times and no machine names.
        side: Directory for logs, curves and timings that belong to the artifact but not to its digest.
        work: Directory that survives a kill of this stage: checkpoints.
        rows: Directory of the row journal, shared by all runs with the same row settings.
        runtime: Device, precision, engine and threads.
        listeners: Who else hears each point of the curves: called with its step and metrics.
        main: Whether this is the process whose payload and figures count: the first of several.
        shares: How many processes compute the stage's rows at once.
        spent: What endpoints were asked and what it cost, by name: a part of the stage's cost.
        first_progress: When `progress` was called for the first time, on the monotonic clock; None before that.
        encoded: Directory of the token ids of tables, shared by all runs of the store; None outside of one.
    """

    out: Path
    side: Path
    work: Path
    rows: Path
    runtime: Runtime
    main: bool = True
    encoded: Path | None = None
    shares: int = 1
    spent: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    computed: int = 0
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    first_progress: float | None = None
    listeners: list[Callable[[int, dict[str, float]], None]] = field(default_factory=list)
    _phase: tuple[str, int, float, int] = ("", 0, 0.0, 0)  # unit, total, start, and what was done by then
    _last: float = 0.0

    def progress(self, done: int, total: int, unit: str = "rows", **figures: float) -> None:
        """Say how far the stage is; at most five times a second reaches the parent's progress line.

        `figures` are shown beside it, for example `loss` and `tokens_per_s`.
        """
        now = time.monotonic()
        self.first_progress = self.first_progress or now
        if not self.main or (now - self._last < 0.2 and done < total and self._phase[:2] == (unit, total)):
            return
        self._last = now
        if self._phase[:2] != (unit, total):  # time left is counted within one kind of work
            self._phase = (unit, total, now, done)
        elapsed, made = now - self._phase[2], done - self._phase[3]
        state = {
            "done": done,
            "total": total,
            "unit": unit,
            "elapsed_s": round(elapsed, 1),
            "left_s": round(elapsed / made * (total - done), 1) if made else None,
            "figures": {name: round(float(value), 5) for name, value in figures.items()},
        }
        temporary = self.side / ".progress.tmp"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.side / "progress.json")

    def curve(self, step: int, metrics: dict[str, float]) -> None:
        """Append one point of the training curves to `side/curves.jsonl`, and tell the listeners."""
        if not self.main:
            return
        with open(self.side / "curves.jsonl", "a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        for listener in self.listeners:
            listener(step, metrics)

    def count_tokens(self, number: int) -> None:
        """Add to the tokens that this stage processed (its cost in the manifest)."""
        self.tokens += number

    def count_rows(self, number: int) -> None:
        """Add to the rows that were computed here and not found in the journal (its cost in the manifest)."""
        self.computed += number

    def spend(self, name: str, number: float) -> None:
        """Add to what endpoints were asked, or to what they cost."""
        self.spent[name] = self.spent.get(name, 0.0) + number

    def warn(self, text: str) -> None:
        """Record something that a person should know; shown at the end of the stage and in the report."""
        self.warnings.append(text)
        print(f"warning: {text}", flush=True)

    def note(self, text: str) -> None:
        """Tell a person now what changes no result: damage that was healed. It is shown, and enters no manifest and no report."""
        self.notes.append(text)
        print(f"note: {text}", flush=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, so that equal values are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_whole(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)
