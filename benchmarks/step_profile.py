"""Where the time of a training step goes: shares by kind of operation, of supervised fine-tuning with plain torch on one thread.

    python benchmarks/step_profile.py MODEL DEMONSTRATIONS [--rows 14] [--steps 3]

DEMONSTRATIONS is a Parquet table with the columns prompt and completion. Shares are of the time inside of operations (`torch.profiler`).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas
import torch
from torch.profiler import ProfilerActivity, profile

from alignflow.data.configs.training import SFTConfig
from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow, make_micro_batches
from alignflow.models.engines.base import make_optimizer
from alignflow.models.policy import Policy, load_policy

PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm"}
MOVED = {"copy_", "index_select", "cat", "fill_", "gather", "index", "clone", "add_", "embedding_dense_backward"}
ELEMENTWISE = {
    "mul",
    "mul_",
    "add",
    "sub",
    "div",
    "neg",
    "pow",
    "exp_",
    "rsqrt",
    "mean",
    "sum",
    "silu",
    "silu_backward",
}
LONGEST = 472


def kind_of(event: Any, vocabulary: int) -> str:
    """The kind of an operation, from its name and the shapes of what it takes: those of the head have the vocabulary's size."""
    of_head = any(vocabulary in shape for shape in event.input_shapes if isinstance(shape, list | tuple))
    name = event.key.removeprefix("aten::")
    if event.key in PRODUCTS:
        return "matrix products of the head" if of_head else "matrix products of the layers"
    if "scaled_dot_product" in name:
        return "attention kernels"
    if "adam" in name.lower() or "foreach" in name:
        return "AdamW and clipping"
    if of_head and event.key.startswith("aten::"):
        return "softmax and the rest of the head"
    if name in MOVED:
        return "copies, rows into rectangles, sums of gradients"
    if name in ELEMENTWISE:
        return "elementwise: norms, rotary positions, SiLU, residual sums"
    return "the rest: views, autograd, Python"


def encode(policy: Policy, table: Path, count: int) -> list[EncodedRow]:
    """The first rows that fit, without a chat template."""
    rows = []
    for row in pandas.read_parquet(table).to_dict("records"):
        prompt, answer = (tuple(policy.tokenizer(str(row[name])).input_ids) for name in ("prompt", "completion"))
        if prompt and answer and len(prompt) + len(answer) < LONGEST:
            rows.append(EncodedRow(prompt, answer))
        if len(rows) == count:
            break
    return rows


def main() -> None:
    """Profile some steps and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("demonstrations", type=Path)
    parser.add_argument("--rows", type=int, default=14)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_policy(arguments.model, Runtime(precision="fp32", engine="torch"), trainable=True)
    rows, optimizer = (
        encode(policy, arguments.demonstrations, arguments.rows),
        make_optimizer(policy.model, SFTConfig()),
    )
    tokens = sum(row.supervised for row in rows)

    def step() -> None:
        for batch in make_micro_batches([len(row) for row in rows], 2048):
            found = policy.token_statistics([rows[index] for index in batch], ("logps", "correct"), summed=True)
            (-found.logps.sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    started = time.process_time()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        for _ in range(arguments.steps):
            step()
    seconds = (time.process_time() - started) / arguments.steps
    shares: Counter[str] = Counter()
    for event in found.key_averages(group_by_input_shape=True):
        shares[kind_of(event, policy.model.config.vocab_size)] += event.self_cpu_time_total
    print(f"{len(rows)} rows, {sum(map(len, rows))} tokens, {tokens} supervised: {seconds:.2f} CPU seconds per step")
    for kind, spent in shares.most_common():
        print(f"| {kind} | {spent / shares.total():.1%} |")


if __name__ == "__main__":
    main()
