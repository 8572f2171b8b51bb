"""TRL's side of training.py and loss_curves.py: one training run per line of its input, in an environment that has TRL and nothing of ours."""

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
from torch.nn.functional import cross_entropy, pad
from training_methods import METHODS, SHOWN
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

FOLDER = Path(sys.argv[1])
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
ROWS_AT_A_TIME = 8  # TRL's default


class Prepared:
    """Takes rows that are tokenised already, as TRL's SFT and reward trainers do by themselves."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
        return dataset

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """What ORPO's and CPO's trainers call for each row."""
        return feature


class PreparedDPO(Prepared, DPOTrainer):
    """DPO."""


class PreparedKTO(Prepared, KTOTrainer):
    """KTO."""


class PreparedCPO(Prepared, CPOTrainer):
    """CPO, and SimPO by `loss_type`."""


class PreparedORPO(Prepared, ORPOTrainer):
    """ORPO: the NLL is over the prompt, too."""


class AnswersORPO(PreparedORPO):
    """ORPO with the NLL of the answers alone."""

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        found = super().concatenated_forward(model, batch)
        logits, labels = found[2], batch["chosen_labels"][:, 1:]
        labels = pad(labels, (0, logits.shape[1] - labels.shape[1]), value=-100)
        return *found[:4], cross_entropy(logits.flatten(0, 1), labels.flatten())


TRAINERS: dict[str, tuple[Any, Any]] = {
    "sft": (SFTTrainer, SFTConfig),
    "reward": (RewardTrainer, RewardConfig),
    "dpo": (PreparedDPO, DPOConfig),
    "kto": (PreparedKTO, KTOConfig),
    "cpo": (PreparedCPO, CPOConfig),
    "orpo": (PreparedORPO, ORPOConfig),
    "orpo_answers": (AnswersORPO, ORPOConfig),
}


def memory(field: str) -> float:
    """A field of this process's memory, MB; what earlier runs freed is given back first."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def arguments_of(trainer: str, options: dict[str, Any]) -> dict[str, Any]:
    """What all of TRL's configs share. Gradient checkpointing, on by default, is off: it would cost a forward pass."""
    at_a_time = options.get("rows_at_a_time", SETTINGS.get("rows_at_a_time", ROWS_AT_A_TIME))
    shared: dict[str, Any] = {
        "output_dir": str(FOLDER / "theirs"),
        "per_device_train_batch_size": at_a_time,
        "gradient_accumulation_steps": max(1, SETTINGS["batch_size"] // at_a_time),
        "num_train_epochs": 1,
        "learning_rate": SETTINGS["learning_rate"],
        "lr_scheduler_type": "linear",
        "max_length": SETTINGS["max_length"],
        "use_cpu": True,
        "bf16": SETTINGS["precision"] == "bf16",
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": SETTINGS["logging_steps"],
        "disable_tqdm": True,
        "seed": 0,
    }
    if SETTINGS.get("sequential") or trainer == "kto":
        shared["train_sampling_strategy"] = "sequential"
    if options.get("grouped"):
        shared["train_sampling_strategy"] = "group_by_length"
    if options.get("precompute"):
        shared["precompute_ref_log_probs"] = True
    if options.get("padding_free"):
        shared |= {"padding_free": True, "max_length": None}  # TRL's own demand; the rows fit already
    return {**shared, "packing": True} if options.get("packing") else shared


def as_trl_has_them(trainer: str, rows: list[dict[str, Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows with the columns that a trainer reads, and `length`, by which they can be grouped."""
    if trainer == "kto":
        return rows if options.get("mismatched") else rotated(rows, options.get("rows_at_a_time"))
    if trainer == "sft":
        return rows
    both = [{side: row["prompt_ids"] + row[f"{side}_ids"] for side in ("chosen", "rejected")} for row in rows]
    lengths = [max(map(len, sides.values())) for sides in both]
    if trainer == "dpo":
        found = rows
    elif trainer == "reward":
        found = [{f"{side}_ids": ids for side, ids in sides.items()} for sides in both]
    else:
        found = [
            {
                f"{side}_{name}": column
                for side, ids in sides.items()
                for name, column in {
                    "input_ids": ids,
                    "attention_mask": [1] * len(ids),
                    "labels": [-100] * len(row["prompt_ids"]) + row[f"{side}_ids"],
                }.items()
            }
            for row, sides in zip(rows, both, strict=True)
        ]
    return [{**row, "length": length} for row, length in zip(found, lengths, strict=True)]


def rotated(rows: list[dict[str, Any]], at_a_time: int | None) -> list[dict[str, Any]]:
    """Rows with the answer before them in their batch as the one to another prompt, as TRL's KTO makes it of texts."""
    size = at_a_time or SETTINGS.get("rows_at_a_time", ROWS_AT_A_TIME)
    found = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        found += [
            {**row, "KL_completion_ids": before["completion_ids"]}
            for row, before in zip(batch, [batch[-1], *batch[:-1]], strict=True)
        ]
    return found


def make_trainer(task: str, options: dict[str, Any], rows: dict[str, Any]) -> Any:
    """The trainer of a method, on its rows."""
    method = METHODS[task]
    trainer, config = TRAINERS[options.get("trainer", method.trainer)]
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "base")
    if method.trainer == "reward":
        if tokenizer.pad_token_id == tokenizer.eos_token_id:
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.bos_token
        model = AutoModelForSequenceClassification.from_pretrained(FOLDER / "base", num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = tokenizer.pad_token_id
        torch.nn.init.zeros_(model.score.weight)  # as ours; TRL draws it
    else:
        model = AutoModelForCausalLM.from_pretrained(FOLDER / "base", dtype=torch.float32)
    dataset = Dataset.from_list(as_trl_has_them(method.trainer, rows[method.data], options))
    arguments = config(**arguments_of(method.trainer, options), **method.theirs)
    return trainer(model, args=arguments, train_dataset=dataset, processing_class=tokenizer)


def train(task: str, **options: Any) -> dict[str, Any]:
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
    points = [point for point in trainer.state.log_history if "loss" in point]
    return {
        "seconds": seconds,
        "tokens": rows["supervised"][METHODS[task].data],
        "memory_mb": peak - before,
        "process_mb": peak,
        "curve": [{name: point[name] for name in SHOWN if name in point} for point in points],
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
