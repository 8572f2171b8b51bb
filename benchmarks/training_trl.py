"""TRL's side of training.py: one training run per line of its input, in an environment that has TRL and nothing of ours."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

FOLDER = Path(sys.argv[1])
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
ROWS_AT_A_TIME = 8  # TRL's default


class PreparedDPOTrainer(DPOTrainer):
    """Takes rows that are tokenised already, as TRL's other trainers do."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
        return dataset


def memory(field: str) -> float:
    """A field of this process's memory, MB; what earlier runs freed is given back first."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def arguments_of(grouped: bool) -> dict[str, Any]:
    """What all of TRL's configs share. Gradient checkpointing, on by default, is off: it would cost a forward pass."""
    shared: dict[str, Any] = {
        "output_dir": str(FOLDER / "theirs"),
        "per_device_train_batch_size": ROWS_AT_A_TIME,
        "gradient_accumulation_steps": max(1, SETTINGS["batch_size"] // ROWS_AT_A_TIME),
        "num_train_epochs": 1,
        "learning_rate": 1e-5,
        "max_length": SETTINGS["max_length"],
        "use_cpu": True,
        "bf16": SETTINGS["precision"] == "bf16",
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 5,
        "disable_tqdm": True,
        "seed": 0,
    }
    return {**shared, "train_sampling_strategy": "group_by_length"} if grouped else shared


def make_trainer(task: str, options: dict[str, Any], rows: dict[str, Any]) -> Any:
    """The trainer of a task, on its rows."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "base")
    shared = arguments_of(options.get("grouped", False))
    chosen = {name: options[name] for name in ("padding_free", "packing") if name in options}
    if "padding_free" in chosen:
        shared["max_length"] = None  # TRL's own demand; the rows fit already
    if task == "sft":
        model = AutoModelForCausalLM.from_pretrained(FOLDER / "base", dtype=torch.float32)
        return SFTTrainer(
            model,
            SFTConfig(**shared, **chosen),
            train_dataset=Dataset.from_list(rows["sft"]),
            processing_class=tokenizer,
        )
    if task == "reward":
        whole = [
            {side: row["prompt_ids"] + row[side] for side in ("chosen_ids", "rejected_ids")} for row in rows["pairs"]
        ]
        if tokenizer.pad_token_id == tokenizer.eos_token_id:
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.bos_token
        model = AutoModelForSequenceClassification.from_pretrained(FOLDER / "base", num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = tokenizer.pad_token_id
        return RewardTrainer(
            model, RewardConfig(**shared), train_dataset=Dataset.from_list(whole), processing_class=tokenizer
        )
    model = AutoModelForCausalLM.from_pretrained(FOLDER / "base", dtype=torch.float32)
    config = DPOConfig(**shared, precompute_ref_log_probs=options.get("precompute", False))
    return PreparedDPOTrainer(
        model, args=config, train_dataset=Dataset.from_list(rows["pairs"]), processing_class=tokenizer
    )


def train(task: str, **options: Any) -> dict[str, float]:
    """One epoch; the reference's passes, which TRL precomputes in the constructor, count where `reference` says so."""
    rows = json.loads((FOLDER / "rows.json").read_text())
    started = time.process_time()
    trainer = make_trainer(task, options, rows)
    building = time.process_time() - started
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    started = time.process_time()
    trainer.train()
    seconds, peak = time.process_time() - started, memory("VmHWM")
    if options.get("reference"):
        seconds += building
    return {"seconds": seconds, "tokens": rows["supervised"][task], "memory_mb": peak - before}


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
