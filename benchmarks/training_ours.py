"""Our side of training.py: prepares the rows for both sides, then does one training run per line of its input."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas
import torch
import transformers
from training_methods import METHODS, SHOWN

from alignflow.data import catalogue
from alignflow.data.configs.inputs import InitConfig
from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig
from alignflow.data.records import assistant, user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.models.batching import make_micro_batches
from alignflow.models.engines.base import make_optimizer
from alignflow.models.initialise import initialise
from alignflow.models.policy import load_policy
from alignflow.models.trainers import offline, reward, sft
from alignflow.models.trainers.fit import Plan, step_order
from alignflow.models.trainers.offline_rows import read_halves
from alignflow.models.trainers.pairs import read_pairs

FOLDER = Path(sys.argv[1])
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
METHODS_OF_BENCHMARKS = {
    "dpo_live": replace(catalogue.METHODS["dpo"], live_reference=True, needs=("logps", "reference_logps"))
}
"""DPO whose reference runs beside the policy in every step, as that of TDPO does."""


class Watch:
    """CPU seconds of the calls that it wraps, and the peak of memory in MB: `peak` above its start, `process` all of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak = 0.0
        self.process = 0.0

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, measured under `name`."""

        def measured(*arguments: Any, **named: Any) -> Any:
            gc.collect()
            before = memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            started = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] = time.process_time() - started
                highest = memory("VmHWM")
                self.peak, self.process = max(self.peak, highest - before), max(self.process, highest)

        return measured

    def measures(self, seconds: float) -> dict[str, float]:
        """What training.py reports of a run."""
        return {"seconds": seconds, "memory_mb": self.peak, "process_mb": self.process}


def memory(field: str) -> float:
    """A field of this process's memory, MB; what earlier runs freed is given back first."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def prepare() -> dict[str, Any]:
    """Write base model, tables and token ids; returns what the report says about them."""
    run = new_run("init")
    initialise(InitConfig(path=SETTINGS["model"]), run=run)
    shutil.copytree(run.out, FOLDER / "base", dirs_exist_ok=True)
    draw = random.Random(0)
    tables = {
        name: pandas.read_parquet(SETTINGS[name]).to_dict("records") for name in ("demonstrations", "preferences")
    }
    for rows in tables.values():
        draw.shuffle(rows)
    demonstrations = [
        {"id": f"d{n}", "source": "b", "messages": [*user(str(row["prompt"])), *assistant(str(row["completion"]))]}
        for n, row in enumerate(tables["demonstrations"])
    ]
    preferences = [
        {
            "id": f"p{n}",
            "source": "b",
            "prompt": user(str(row["prompt"])),
            "chosen": assistant(str(row["chosen"])),
            "rejected": assistant(str(row["rejected"])),
            "chosen_ended": True,
            "rejected_ended": True,
        }
        for n, row in enumerate(tables["preferences"])
    ]
    tokenizer = load_policy(FOLDER / "base", runtime()).tokenizer
    demonstrations, preferences = fitting(demonstrations, preferences, tokenizer)
    for name, rows in (("demonstrations", demonstrations), ("preferences", preferences)):
        write_table(rows, name, FOLDER / name / "train.parquet")
        write_table(rows[:2], name, FOLDER / name / "heldout.parquet")
    encoded = sft.read_rows(FOLDER / "demonstrations" / "train.parquet", tokenizer, SETTINGS["max_length"], run)[1]
    pairs = read_pairs(FOLDER / "preferences" / "train.parquet", tokenizer, SETTINGS["max_length"], run, "benchmark")
    ids = {
        "demonstrations": in_order(
            [{"input_ids": [*row.prompt_ids, *row.completion_ids], "labels": labels(row)} for row in encoded]
        ),
        "pairs": in_order(
            [
                {
                    "prompt_ids": list(one.prompt_ids),
                    "chosen_ids": list(one.completion_ids),
                    "rejected_ids": list(other.completion_ids),
                }
                for one, other in zip(pairs.chosen, pairs.rejected, strict=True)
            ]
        ),
        "answers": in_order(answers(tokenizer, run)),
        "supervised": {
            "demonstrations": sum(row.supervised for row in encoded),
            **dict.fromkeys(("pairs", "answers"), sum(row.supervised for row in (*pairs.chosen, *pairs.rejected))),
        },
    }
    (FOLDER / "rows.json").write_text(json.dumps(ids))
    lengths = sorted(map(len, encoded))
    both = sorted(len(row) for row in (*pairs.chosen, *pairs.rejected))
    return {
        "model": Path(SETTINGS["model"]).name,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "text": f"{len(encoded)} demonstrations of {lengths[0]} to {lengths[-1]} tokens (median {lengths[len(lengths) // 2]}), "
        f"{len(pairs)} pairs with sides of {both[0]} to {both[-1]} (median {both[len(both) // 2]})",
    }


def in_order(rows: list[Any]) -> list[Any]:
    """Rows in the order in which our trainings take them: TRL's KTO and loss_curves.py train on them in that order, too."""
    config = SFTConfig(batch_size=len(rows), num_train_epochs=1.0)
    order = step_order(Plan("benchmark", [1] * len(rows), [1.0] * len(rows), [""] * len(rows)), config)(0)
    return [rows[place] for place in order]


def answers(tokenizer: Any, run: Run) -> list[dict[str, Any]]:
    """Each answer of the pairs with its label, and the answer to another prompt that our KTO has beside it."""
    table = FOLDER / "preferences" / "train.parquet"
    rows = read_halves(table, tokenizer, SETTINGS["max_length"], run, "benchmark").with_mismatched(
        SETTINGS["max_length"]
    )
    assert rows.label is not None
    found = []
    for place in rows.members:
        row, other = rows.answers[int(place)], rows.mismatched_row(int(place))
        assert other is not None
        ids = {"prompt_ids": list(row.prompt_ids), "completion_ids": list(row.completion_ids)}
        found.append({**ids, "KL_completion_ids": list(other.completion_ids), "label": bool(rows.label[place])})
    return found


def fitting(demonstrations: list[Any], preferences: list[Any], tokenizer: Any) -> tuple[list[Any], list[Any]]:
    """The first rows whose sides have some tokens and fit the longest row."""

    def short(*texts: str) -> bool:
        return all(text.strip() and len(tokenizer(text).input_ids) < SETTINGS["max_length"] - 40 for text in texts)

    chosen = [row for row in demonstrations[:4000] if short("".join(turn["content"] for turn in row["messages"]))]
    pairs = [
        row
        for row in preferences[:4000]
        if all(short(row["prompt"][0]["content"] + row[side][0]["content"]) for side in ("chosen", "rejected"))
    ]
    pairs = [row for row in pairs if all(row[side][0]["content"].strip() for side in ("chosen", "rejected"))]
    return chosen[: SETTINGS["rows"]], pairs[: SETTINGS["rows"]]


def labels(row: Any) -> list[int]:
    """TRL's labels of a row: its ids where they count, -100 elsewhere."""
    counts = row.mask or (True,) * len(row.completion_ids)
    return [-100] * len(row.prompt_ids) + [
        token if counted else -100 for token, counted in zip(row.completion_ids, counts, strict=True)
    ]


def runtime(engine: str = "deepspeed") -> Runtime:
    """How ours runs."""
    return Runtime(
        precision=SETTINGS["precision"],
        engine=engine,
        threads=SETTINGS["threads"],
        micro_batch_tokens=SETTINGS["micro_batch_tokens"],
    )


def new_run(name: str, engine: str = "deepspeed") -> Run:
    """A Run with fresh folders."""
    root = FOLDER / "runs" / name
    shutil.rmtree(root, ignore_errors=True)
    places = {part: root / part for part in ("out", "side", "work", "rows")}
    for place in places.values():
        place.mkdir(parents=True)
    return Run(**places, runtime=runtime(engine))


@contextlib.contextmanager
def measured(watch: Watch, module: Any, *names: str) -> Iterator[None]:
    """Measure functions of a trainer's module while it runs."""
    true = {name: getattr(module, name) for name in names}
    for name, function in true.items():
        setattr(module, name, watch.wrap(name, function))
    try:
        yield
    finally:
        for name, function in true.items():
            setattr(module, name, function)


def train(task: str, engine: str = "deepspeed", reference: bool = False) -> dict[str, Any]:
    """One epoch of a method by the stage's own body; what is measured is its loop, and the reference's passes where `reference`
    says so. `curve` has loss and gradient norm of each logged step."""
    method, base, watch = METHODS[task], FOLDER / "base", Watch()
    config = {
        "num_train_epochs": 1.0,
        "batch_size": SETTINGS["batch_size"],
        "learning_rate": SETTINGS["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.0,
        "max_length": SETTINGS["max_length"],
        "logging_steps": SETTINGS["logging_steps"],
        "save_steps": 10**6,
        **method.ours,
    }
    supervised = json.loads((FOLDER / "rows.json").read_text())["supervised"][method.data]
    run = new_run(task, engine)
    if engine == "plain":
        watch.wrap("fit", plain_loop)(SFTConfig(**config))
        return {"tokens": supervised, **watch.measures(watch.seconds["fit"])}
    if method.stage == "sft":
        with measured(watch, sft, "fit"):
            sft.train_sft(SFTConfig(**config), base=base, demonstrations=FOLDER / "demonstrations", run=run)
    elif method.stage == "reward":
        with measured(watch, reward, "fit"):
            reward.train_reward(RewardConfig(**config), base=base, preferences=FOLDER / "preferences", run=run)
    else:
        with measured(watch, offline, "fit", "own_scores"):
            offline.train_offline(AlignConfig(**config), policy=base, preferences=FOLDER / "preferences", run=run)
    seconds = watch.seconds["fit"] + (watch.seconds["own_scores"] if reference else 0.0)
    curve = [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]
    points = [{name: point[name] for name in SHOWN if name in point} for point in curve if "loss" in point]
    return {"tokens": supervised, "curve": points, **watch.measures(seconds)}


def plain_loop(config: SFTConfig) -> None:
    """The same micro-batches and the same forward pass in a loop of ten lines: what an engine may add to."""
    policy = load_policy(FOLDER / "base", runtime(), trainable=True)
    rows = sft.read_rows(
        FOLDER / "demonstrations" / "train.parquet", policy.tokenizer, config.max_length, new_run("plain")
    )[1]
    optimizer = make_optimizer(policy.model, config)
    for start in range(0, len(rows), config.batch_size):
        step = rows[start : start + config.batch_size]
        tokens = sum(row.supervised for row in step)
        for batch in make_micro_batches([len(row) for row in step], SETTINGS["micro_batch_tokens"]):
            statistics = policy.token_statistics([step[index] for index in batch], ("logps", "correct"))
            (-statistics.logps.sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Answer each line of the input."""
    cast(dict[str, Any], catalogue.METHODS).update(METHODS_OF_BENCHMARKS)
    torch.set_num_threads(SETTINGS["threads"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for line in sys.stdin:
        request = json.loads(line)
        found = prepare() if request["task"] == "prepare" else train(**request)
        print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
