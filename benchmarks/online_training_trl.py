"""TRL's side of online_training.py: one training per line of its input, in an environment that has TRL and nothing of ours."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset, disable_progress_bars
from online_methods import METHODS, scores
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

FOLDER = Path(sys.argv[1])
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
TRAINERS: dict[str, tuple[Any, Any]] = {
    "grpo": (GRPOTrainer, GRPOConfig),
    "rloo": (RLOOTrainer, RLOOConfig),
    "online_dpo": (OnlineDPOTrainer, OnlineDPOConfig),
}


class Ends(TrainerCallback):
    """CPU seconds of the process at the end of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.seconds.append(time.process_time())


def arguments_of(method: str, at_a_time: int) -> Any:
    """The config: what all share, and what the method's row says. `at_a_time` counts answers, in online DPO the pairs of two."""
    row = METHODS[method]
    rows = SETTINGS["answers"] // (row.generations if method == "online_dpo" else 1)
    size = min(at_a_time, rows)
    shared: dict[str, Any] = {
        "output_dir": str(FOLDER / "theirs"),
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": rows // size,
        "max_steps": SETTINGS["updates"],
        "learning_rate": SETTINGS["learning_rate"],
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,  # on by default; it would cost a forward pass
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 1,
        "disable_tqdm": True,
        "temperature": 1.0,
        "seed": 0,
    }
    if method == "online_dpo":
        shared |= {
            "max_new_tokens": SETTINGS["response"],
            "max_length": SETTINGS["longest"] + SETTINGS["response"],
            "disable_dropout": True,
        }
    else:
        shared |= {"max_completion_length": SETTINGS["response"], "num_generations": row.generations}
    return TRAINERS[method][1](**shared, **row.theirs)


def train(task: str, at_a_time: int) -> dict[str, Any]:
    """Some updates; the seconds are those from the end of the first update on."""
    ends = Ends()
    trainer = TRAINERS[task][0](
        AutoModelForCausalLM.from_pretrained(FOLDER / "base", dtype=torch.float32),
        reward_funcs=scores,
        args=arguments_of(task, at_a_time),
        train_dataset=Dataset.from_list(
            [{"prompt": prompt} for prompt in json.loads((FOLDER / "prompts.json").read_text())]
        ),
        processing_class=AutoTokenizer.from_pretrained(FOLDER / "base"),
        callbacks=[ends],
    )
    trainer.train()
    logged = [point for point in trainer.state.log_history if METHODS[task].reward in point]
    return {
        "seconds": ends.seconds[-1] - ends.seconds[0],
        "rewards": [point[METHODS[task].reward] for point in logged],
        "length": logged[-1].get("completions/mean_length") if logged else None,
    }


def main() -> None:
    """Answer each line of the input."""
    torch.set_num_threads(SETTINGS["threads"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    for line in sys.stdin:
        print("RESULT " + json.dumps(train(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
