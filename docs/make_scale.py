"""Writes docs/measurements/scale.md from the functions that `alignflow plan` estimates with. Imports no torch.

`python docs/make_scale.py` writes it; `--check` writes nothing and exits 1 where it is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import page_main
from alignflow.data.estimate.memory import FrozenModel, LearningModel, Rollout, online_need, training_need
from alignflow.data.estimate.place import GIB, Need, Place
from alignflow.data.estimate.shapes import ModelShape
from alignflow.flows.capacity import TOLERANCE

DIRECTORY = Path(__file__).parent
PAGE = "measurements/scale.md"
CARD = 79  # GiB that a GPU of 80 GB has
TOKENS = 8192
RANK = 16
ROLLOUT = Rollout(rows=64, prompt_length=512, new_tokens=512)

MODELS: Mapping[str, ModelShape] = {
    "1B": ModelShape("llama", 2048, 16, 32, 8, 64, 8192, 128256, tied=True),
    "3B": ModelShape("llama", 3072, 28, 24, 8, 128, 8192, 128256, tied=True),
    "8B": ModelShape("llama", 4096, 32, 32, 8, 128, 14336, 128256),
    "14B": ModelShape("qwen2", 5120, 48, 40, 8, 128, 13824, 152064),
    "32B": ModelShape("qwen2", 5120, 64, 40, 8, 128, 27648, 152064),
    "70B": ModelShape("llama", 8192, 80, 64, 8, 128, 28672, 128256),
}
NAMES = {
    "1B": "Llama 3.2 1B",
    "3B": "Llama 3.2 3B",
    "8B": "Llama 3.1 8B",
    "14B": "Qwen2.5 14B",
    "32B": "Qwen2.5 32B",
    "70B": "Llama 3.1 70B",
}
COLUMNS: Sequence[tuple[str, int, str]] = (
    ("ZeRO 1", 1, "none"),
    ("1, optimizer", 1, "optimizer"),
    ("ZeRO 2", 2, "none"),
    ("2, optimizer", 2, "optimizer"),
    ("ZeRO 3", 3, "none"),
    ("3, optimizer", 3, "optimizer"),
    ("3, all", 3, "all"),
)

INTRODUCTION = f"""\
<!-- Written by docs/make_scale.py: do not edit, run `make tables`. -->
# Memory from 1B to 70B

GiB on one GPU at the largest moment of a training, by arithmetic. In brackets, where something is offloaded: GiB of the machine's
own memory for all of its processes. **Bold** fits a GPU of 80 GB ({CARD} GiB). These are the functions of `alignflow/data/estimate`,
which `alignflow plan` uses for a recipe of yours; their docstrings have the formulas and where they come from.

**None of these figures was measured on a GPU.** They count tensors. What stands behind them was measured on a CPU: weights,
gradients, optimizer states and buffers of DeepSpeed 0.19 with one and two processes, as the rise of resident memory of a model of 29
million weights (2% under to 7% over the formulas where the bucket that gradients are reduced in is left out; with it 17% and 29% over
under ZeRO 1 with one and two processes, which is blocks that the C library keeps or a bucket that still stands at the step); the
activations that torch keeps, by saved-tensor hooks (3 to 5% over); the peak of a
whole SFT process for a model of 3 million weights (1.05 to 1.3 times the estimate: the C library keeps freed blocks). Offloading and
ZeRO 3 in bf16 were read in the source and not measured at all. Not counted are fragmentation of the allocator, buffers of NCCL,
padding of attention where rows differ in length, and what attention takes where no fused kernel runs. `alignflow plan` therefore
calls a need that is over a limit by less than {TOLERANCE:.0%} of itself tight, and refuses from there on. Measure on your own GPUs before you
rely on a figure near the limit.

Taken for all tables: DeepSpeed, bf16 (autocast over fp32 weights; frozen matrices are bf16, but not under ZeRO 3), `gradient_checkpointing: true`, `micro_batch_tokens: {TOKENS}`;
LoRA with r = {RANK} on all linear layers. With `offload: optimizer` master weights, moments and gradients stand in the machine's
memory, with `all` the weights too. On one GPU ZeRO has nothing to share out; its stages differ in their buffers. Weights and
gradients are fp32 in either precision, so a model takes twice the memory of one that is trained in pure bf16.\
"""


def shapes_table() -> str:
    """The models, their weights, and the parts that are the same whatever trains them."""
    rows = []
    for label, shape in MODELS.items():
        weights, adapter = shape.parameters, shape.lora_parameters(RANK)
        rows.append(
            [
                label,
                NAMES[label],
                f"{weights:,}",
                gib(4 * weights),
                gib(8 * weights),
                f"{adapter:,}",
                gib(4 * weights),
                gib(3 * 12 * weights),
            ]
        )
    head = [
        "",
        "shape of",
        "weights",
        "weights, or gradients, fp32",
        "two moments",
        f"LoRA weights, r = {RANK}",
        "checkpoint",
        "training states on disk",
    ]
    return table(head, rows)


def sft(shape: ModelShape, rank: int | None, place: Place) -> Need:
    """SFT, and DPO: its reference is asked before training."""
    return training_need(LearningModel(shape, TOKENS, TOKENS, rank, True), place)


def reward(shape: ModelShape, rank: int | None, place: Place) -> Need:
    """A reward model on the shape's backbone."""
    return training_need(LearningModel(shape, TOKENS, 0, rank, True), place)


def ppo(shape: ModelShape, rank: int | None, place: Place) -> Need:
    """Policy and value model learn; reference and reward model of the same shape are frozen. An adapter's base is its reference."""
    frozen = [*([] if rank else [FrozenModel(shape)]), FrozenModel(shape, scores=True)]
    return online_need(
        LearningModel(shape, TOKENS, TOKENS, rank, True),
        LearningModel(shape, TOKENS, 0, None, True),
        frozen,
        ROLLOUT,
        place,
    )


SECTIONS: Sequence[tuple[str, str, Callable[[ModelShape, int | None, Place], Need]]] = (
    (
        "SFT and DPO",
        "DPO needs what SFT needs: log-probabilities of the reference are computed before training and kept as numbers, so no second\n"
        "model is in memory; `micro_batch_tokens` counts both sides of a pair.",
        sft,
    ),
    ("Reward model", "As SFT, without the logits of a vocabulary.", reward),
    (
        "PPO",
        "A policy and a value model that learn, a frozen reference and a frozen reward model, all of one size. With LoRA the policy's base is\n"
        "the reference, and the value model learns in full all the same. "
        f"{ROLLOUT.rows} answers of {ROLLOUT.new_tokens} tokens to prompts of {ROLLOUT.prompt_length} are sampled at a\n"
        "time with the policy's own weights, which under ZeRO 3 are whole in each process then.",
        ppo,
    ),
)


def needs_table(rule: Callable[[ModelShape, int | None, Place], Need], rank: int | None) -> str:
    """One line per model and number of GPUs, one column per ZeRO stage and offloading."""
    rows = []
    for label, shape in MODELS.items():
        for processes in (1, 8):
            places = [
                Place("cuda", "bf16", "deepspeed", stage, processes, 1, offload)
                for _, stage, offload in COLUMNS  # type: ignore[arg-type]
            ]
            rows.append([label, str(processes), *(cell(rule(shape, rank, place), place) for place in places)])
    return table(["", "GPUs", *(name for name, _, _ in COLUMNS)], rows)


def cell(need: Need, place: Place) -> str:
    """GiB of one GPU, bold where a card has it, and of the machine where something is offloaded to it."""
    shown = gib(need.peak.total)
    shown = f"**{shown}**" if need.peak.total <= CARD * GIB else shown
    return shown if place.offload == "none" else f"{shown} ({gib(need.host_total * place.processes_per_node)})"


def example() -> str:
    """One figure taken apart."""
    peak = sft(MODELS["8B"], None, Place("cuda", "bf16", "deepspeed", 3, 8)).peak
    parts = ", ".join(f"{name} {gib(value)}" for name, value in sorted(peak.parts.items(), key=lambda part: -part[1]))
    return (
        f"For example SFT of 8B on 8 GPUs under ZeRO 3, {gib(peak.total)} GiB in its {peak.name}: {parts}.\n"
        "`bf16 copies` are autocast's: it keeps one of every matrix that learns until a forward pass ends, but under ZeRO 3."
    )


def gib(value: float) -> str:
    """Bytes in GiB: whole ones from 10 on."""
    amount = value / GIB
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.1f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(head), ["---"] * len(head), *rows])


def page() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        "## The models",
        shapes_table(),
        "GiB, but for the numbers of weights. Three states are on disk while one is written.",
        example(),
    ]
    for title, text, rule in SECTIONS:
        parts += [
            f"## {title}",
            text,
            "### All weights",
            needs_table(rule, None),
            f"### LoRA, r = {RANK}",
            needs_table(rule, RANK),
        ]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str], directory: Path = DIRECTORY) -> int:
    """Write the page, or with --check say what is out of date; returns the exit status."""
    return page_main.main({PAGE: page}, __doc__, arguments, directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
