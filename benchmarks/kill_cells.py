"""The trainings that `reliability.py` kills: tiny inputs, a launch as a flow does it, and what a run is doing at a moment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.artifacts import digest_of, file_digest, payload_files
from alignflow.data.records import assistant, user, write_table
from alignflow.data.run import Runtime
from alignflow.tasks.launch.child import run_child
from alignflow.tasks.store.artifact_store import ArtifactStore

WORDS = ("cat", "dog", "bird", "house", "hill", "rain", "mat")
TEXT = "the cat sat on the mat and the dog ran to the red house with a small bird while rain fell on green hills. "
COMMON = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 64, "logging_steps": 3, "save_steps": 2}
ONLINE = {
    "response_length": 12,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "rollout_batch_size": 4,
    "normalize_scores": "mean_std",
    "adaptive_kl": True,
    "ptx_coefficient": 0.1,
    "samples_steps": 2,
    "heldout_judge": {"name": "rubric"},
}
GRPO = {
    "response_length": 12,
    "num_generations": 4,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "rollout_batch_size": 4,
    "samples_steps": 2,
    "heldout_judge": {"name": "rubric"},
}
ANY, WRITING = (
    "any",
    "writing a state",
)  # what a kill may wait for beside a phase: nothing, and a state that is half-written


@dataclass(frozen=True)
class Kind:
    """A kind of training: its stage, what it takes, how many steps it has, and in which phases a chain's kills are to come."""

    stage: str
    inputs: dict[str, str]
    config: dict[str, Any]
    steps: int
    aims: tuple[tuple[str, ...], ...]


ROLLING_OUT = ((ANY, "rollout", ANY, "scoring", "update"), (ANY, WRITING, ANY, "update", "publishing"))
TRAINING = ((ANY, WRITING, ANY, "evaluation", ANY), (ANY, ANY, WRITING, ANY, "publishing"))
KINDS = {
    "sft": Kind(
        "sft",
        {"base": "checkpoint", "demonstrations": "demonstrations"},
        COMMON | {"eval_steps": 6, "load_best_model_at_end": True},
        60,
        TRAINING,
    ),
    "reward": Kind(
        "reward",
        {"base": "checkpoint", "preferences": "preferences"},
        COMMON | {"eval_steps": 6, "check_rows": 4},
        60,
        TRAINING,
    ),
    "dpo": Kind(
        "align",
        {"policy": "checkpoint", "preferences": "preferences"},
        COMMON | {"method": "dpo", "eval_steps": 6},
        60,
        TRAINING,
    ),
    "ppo": Kind(
        "align",
        {
            "policy": "checkpoint",
            "reference": "checkpoint",
            "prompts": "prompts",
            "reward_model": "reward_model",
            "demonstrations": "demonstrations",
        },
        COMMON | {"method": "ppo", "options": ONLINE, "logging_steps": 1},
        12,
        ROLLING_OUT,
    ),
    "grpo": Kind(
        "align",
        {"policy": "checkpoint", "reference": "checkpoint", "prompts": "prompts", "reward_model": "reward_model"},
        COMMON | {"method": "grpo", "options": GRPO, "logging_steps": 1},
        12,
        ROLLING_OUT,
    ),
}
PHASES = ("start-up", "before the first state", "training", "rollout", "scoring", "update", "evaluation", "publishing")


class Cell:
    """One kind of training with a number of processes, in a store of its own.

    Args:
        root: Directory of the stores.
        inputs: Name -> path of what `make_inputs` made.
        kind: A name of KINDS.
        processes: Training processes.
        engine: deepspeed or torch.
        steps: Optimizer steps (PPO: updates); None: those of the kind.
    """

    def __init__(
        self,
        root: Path,
        inputs: Mapping[str, Path],
        kind: str,
        processes: int,
        engine: str = "deepspeed",
        steps: int | None = None,
    ):
        self.name, self.kind, self.processes = f"{kind}-{processes}", KINDS[kind], processes
        self.steps = steps or self.kind.steps
        self._store = ArtifactStore(root / self.name)
        row = catalogue.STAGES[self.kind.stage]
        given = {name: str(inputs[made]) for name, made in self.kind.inputs.items()}
        self._spec = {
            "stage": self.kind.stage,
            "config": row.config(**self.kind.config, max_steps=self.steps).model_dump(mode="json"),
            "runtime": Runtime(engine=engine, processes=processes).model_dump(),
            "inputs": {name.rstrip("?"): given.get(name.rstrip("?")) for name in row.takes},
        }

    def launch(self, key: str, timeout_s: float = 900) -> dict[str, Any]:
        """Run the stage under a key, as `alignflow.tasks.launch.stage` does: a fresh staging area, the key's own work directory."""
        area = self._store.stage_area(key)
        places = {
            "out": area / "payload",
            "side": area / "side",
            "work": self.work(key),
            "rows": self._store.root / "rows" / key,
        }
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        return run_child(
            self.name, {**self._spec, **{name: str(path) for name, path in places.items()}}, area, timeout_s
        )

    def area(self, key: str) -> Path:
        """The staging area of a key."""
        return self._store.root / "staging" / key

    def work(self, key: str) -> Path:
        """What survives a kill."""
        return self._store.root / "work" / key

    def left(self, key: str, result: Mapping[str, Any]) -> Left:
        """What a finished run left."""
        payload = self.area(key) / "payload"
        digest = digest_of({name: file_digest(payload / name) for name in payload_files(payload)})
        points = [json.loads(line) for line in (self.area(key) / "side" / "curves.jsonl").read_text().splitlines()]
        curves = [{name: value for name, value in point.items() if name != "tokens_per_s"} for point in points]
        return Left(digest, dict(result["metrics"]), curves)

    def done(self, key: str) -> int:
        """Steps up to the newest state."""
        return _newest(self.work(key)) or 0

    def doing(self, key: str) -> tuple[str, bool]:
        """What a run is doing, by what stands on disk: one of PHASES, and whether it is writing a state."""
        side, work = self.area(key) / "side", self.work(key)
        writing = any(_stands(work, pattern) for pattern in (".step-*", "*/.step-*", "best/.temporary"))
        if any((self.area(key) / "payload").glob("*")):
            return "publishing", writing
        if not any((side / "tensorboard").glob("*")):  # the last thing before the loop begins
            return "start-up", writing
        last = _last_point(side / "curves.jsonl")
        return (self._phase_online(work, last) if "options" in self.kind.config else self._phase(work, last)), writing

    def _phase(self, work: Path, last: Mapping[str, Any]) -> str:
        step, evaluated = last.get("step", 0), any(name.startswith("eval_") for name in last)
        if step == self.steps and evaluated:
            return "publishing"
        if step and (step == self.steps or step % self.kind.config["eval_steps"] == 0) and not evaluated:
            return "evaluation"
        return "before the first state" if _newest(work) is None else "training"

    def _phase_online(self, work: Path, last: Mapping[str, Any]) -> str:
        if last.get("step") == self.steps:
            return "publishing"
        kept, updates = _newest(work / "rollouts"), _newest(work) or 0
        phase = -1 if kept is None else kept - 2 * updates  # of the update in progress: 0 sampled, 1 scored
        return {0: "scoring", 1: "update"}.get(phase, "rollout")


@dataclass(frozen=True)
class Left:
    """Digest of the payload; metrics, and points of the curves without times."""

    digest: str
    metrics: dict[str, Any]
    curves: list[dict[str, Any]]


def _stands(directory: Path, pattern: str) -> bool:
    """Whether something of that name stands there now: what the run removes while one looks is gone."""
    with contextlib.suppress(FileNotFoundError):
        return any(directory.glob(pattern))
    return False


def _newest(states: Path) -> int | None:
    return max((int(path.name.removeprefix("step-")) for path in states.glob("step-*")), default=None)


def _last_point(curves: Path) -> dict[str, Any]:
    """The last whole line; empty where there is none."""
    try:
        lines = [line for line in curves.read_text().splitlines(keepends=True) if line.endswith("\n")]
    except OSError:
        return {}
    return json.loads(lines[-1]) if lines else {}


def make_inputs(root: Path) -> dict[str, Path]:
    """A two-layer checkpoint made by the stage `init`, tables of rows, and a reward model by the stage `reward`."""
    rows = [(WORDS[i % 7], WORDS[(2 * i + 1) % 5], 1 + i % 6) for i in range(48)]
    tables: dict[str, list[dict[str, Any]]] = {
        "demonstrations": [{"messages": [*user(f"the {a}"), *assistant(" ".join([a] * n))]} for a, b, n in rows],
        "preferences": [
            {
                "prompt": user(f"the {a}"),
                "chosen": assistant(" ".join([a] * n)),
                "rejected": assistant(f"{b} {a}"),
                "chosen_ended": True,
                "rejected_ended": n % 2 == 0,
            }
            for a, b, n in rows
        ],
        "prompts": [{"prompt": user(f"the {a} {b}"), "instructions": None} for a, b, _ in rows],
    }
    for name, table in tables.items():
        named = [{"id": f"{name}-{number}", "source": "made", **row} for number, row in enumerate(table)]
        write_table(named, name, root / name / "train.parquet")
        write_table(named[::4], name, root / name / "heldout.parquet")
    (root / "corpus.txt").write_text((TEXT * 3 + "\n\n") * 4)
    build = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 320,
        "max_position_embeddings": 128,
    }
    config = catalogue.STAGES["init"].config(
        build=build, corpus=({"path": str(root / "corpus.txt"), "format": "text"},)
    )
    area = ArtifactStore(root / "init").stage_area("init")
    spec = {"stage": "init", "config": config.model_dump(mode="json"), "runtime": Runtime().model_dump(), "inputs": {}}
    places = {"out": area / "payload", "side": area / "side", "work": area, "rows": area}
    run_child("init", {**spec, **{name: str(path) for name, path in places.items()}}, area, 300)
    made = {name: root / name for name in tables} | {"checkpoint": area / "payload"}
    reward = Cell(root / "made", made, "reward", 1, "torch", steps=6)
    reward.launch("reward_model")
    return made | {"reward_model": reward.area("reward_model") / "payload"}
