"""Our side of online_training.py: writes model and prompts for both sides, then does one training per line of its input."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pandas
import torch
import transformers
from online_methods import METHODS

from alignflow.data.configs.inputs import InitConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.models.initialise import initialise
from alignflow.models.trainers.align import align

FOLDER = Path(sys.argv[1])
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
REWARD = f"{Path(__file__).with_name('online_methods.py')}:score"


def new_run(name: str) -> Run:
    """Paths of a stage, empty, and how it runs."""
    root = FOLDER / "ours" / name
    shutil.rmtree(root, ignore_errors=True)
    places = {part: root / part for part in ("out", "side", "work", "rows")}
    for place in places.values():
        place.mkdir(parents=True)
    return Run(**places, runtime=Runtime(engine="torch", threads=SETTINGS["threads"]))


def prepare() -> dict[str, Any]:
    """Write the model and the prompts; returns what the report says about them."""
    run = new_run("init")
    initialise(InitConfig(path=SETTINGS["model"]), run=run)
    shutil.copytree(run.out, FOLDER / "base", dirs_exist_ok=True)
    texts = [str(text) for text in pandas.read_parquet(SETTINGS["prompts"])["prompt"].drop_duplicates()]
    texts = [text for text in texts if len(text) <= SETTINGS["longest"]]
    rows = [{"id": f"q{i}", "source": "b", "prompt": user(text), "instructions": None} for i, text in enumerate(texts)]
    write_table(rows, "prompts", FOLDER / "prompts" / "train.parquet")
    (FOLDER / "prompts.json").write_text(json.dumps([row["prompt"] for row in rows]))
    return {"model": Path(SETTINGS["model"]).name, "prompts": len(rows)}


def train(method: str) -> dict[str, Any]:
    """Some updates; the seconds are those from the end of the first update on."""
    row, run, ends = METHODS[method], new_run(method), list[float]()
    run.listeners.append(lambda step, metrics: ends.append(time.process_time()))
    prompts = SETTINGS["answers"] // row.generations
    config = AlignConfig(
        method=method,
        learning_rate=SETTINGS["learning_rate"],
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        max_steps=SETTINGS["updates"],
        batch_size=prompts if method == "online_dpo" else SETTINGS["answers"],
        max_length=SETTINGS["longest"] + SETTINGS["response"],
        logging_steps=1,
        save_steps=10**6,
        options={
            "response_length": SETTINGS["response"],
            "num_generations": row.generations,
            "rewards": [{"name": "function", "options": {"function": REWARD}}],
            **row.ours,
        },
    )
    base = FOLDER / "base"
    align(config, policy=base, reference=base, prompts=FOLDER / "prompts", run=run)
    points = [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]
    return {
        "seconds": ends[-1] - ends[0],
        "rewards": [point["objective/scores"] for point in points if "objective/scores" in point],
        "length": points[-1].get("completions/mean_length"),
    }


def main() -> None:
    """Answer each line of the input."""
    torch.set_num_threads(SETTINGS["threads"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for line in sys.stdin:
        request = json.loads(line)
        found = prepare() if request["task"] == "prepare" else train(request["task"])
        print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
