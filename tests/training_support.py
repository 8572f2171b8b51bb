"""A tiny training that tests run in one process, under torchrun and as a stage: uneven rows, dropout where it is asked for."""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from toy_config import ToyTrainingConfig
from transformers import LlamaConfig, LlamaForCausalLM

from alignflow.data.run import Run, Runtime
from alignflow.models.batching import EncodedRow
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.policy import Policy
from alignflow.models.trainers.fit import Plan, StepOutput, fit


def whole_state(engine):
    """The whole state in every process, for models that fit: name -> tensor of its own shape on the CPU. Every process must call it."""
    parts = engine.parts()
    shapes = {
        name: shape
        for found in group.gather({name: list(part.shape) for name, part in parts.items()})
        for name, shape in found.items()
    }
    whole = {}
    for name in sorted(shapes):
        tensor = torch.zeros(shapes[name]).flatten()
        if name in parts:
            part = parts[name]
            tensor[part.start : part.start + len(part.values)] = part.values.detach().float().cpu()
        whole[name] = group.sum_tensor(tensor).view(shapes[name])
    return whole


def reader_of(whole):
    """Reads from a state that `whole_state` returned."""
    return lambda name, start, stop: whole[name].flatten()[start:stop].clone()


def build(config):
    """A two-layer Llama, drawn from the seed."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=config.tied,
        attention_dropout=config.dropout,
    )
    return LlamaForCausalLM(shape).train(config.dropout > 0)


def make_rows(count=11):
    """Rows of 6 to 45 tokens."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(6, 46, (count,), generator=generator).tolist()
    ids = [tuple(torch.randint(5, 300, (length,), generator=generator).tolist()) for length in lengths]
    return [EncodedRow(row[:2], row[2:]) for row in ids]


def toy_training(config, *, run):
    """Train, and leave the whole state in `run.out`; a body like any other."""
    group.join(run.runtime)
    model = build(config)
    policy, rows = Policy(model, None, run.runtime), make_rows()
    engine = make_engine(model, config, run.runtime)

    def compute(batch):
        time.sleep(config.pause_s)
        if config.fail and group.rank() == group.size() - 1:
            FAILURES[config.fail]()
        statistics = policy.token_statistics([rows[index] for index in batch], ("logps", "correct"))
        return StepOutput(
            -statistics.logps.sum(),
            {"accuracy": (float(statistics.values["correct"].sum()), float(len(statistics.logps)))},
        )

    plan = Plan(
        "toy",
        [len(row) for row in rows],
        [row.supervised for row in rows],
        [f"row {index}" for index in range(len(rows))],
    )
    metrics = fit(engine, compute, plan, config, run)
    state = whole_state(engine)
    if run.main:
        save_file(state, run.out / "state.safetensors")
    engine.close()
    return metrics


def _raise():
    from alignflow.data.errors import DataError

    raise DataError("no good", where="row 3", do="write better rows")


def _die():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


FAILURES = {"raise": _raise, "break": lambda: 1 / 0, "die": _die}


def place(root, **runtime):
    """A Run whose directories lie below `root`."""
    places = {name: Path(root) / name for name in ("out", "side", "work", "rows")}
    for directory in places.values():
        directory.mkdir(parents=True, exist_ok=True)
    return Run(**places, runtime=Runtime(**runtime), main=group.rank() == 0)


def run_cell(root, config, runtime):
    """One training in a directory of its own; its metrics stand beside the state, and its Run is returned."""
    run = place(root, **runtime)
    metrics = toy_training(ToyTrainingConfig(**config), run=run)
    if run.main:
        (run.out / "metrics.json").write_text(json.dumps(metrics))
    return run


def largest_difference(state, expected):
    """Over all elements of two states."""
    assert state.keys() == expected.keys()
    return max(float((state[name] - value).abs().max()) for name, value in expected.items())


def share_of_update(state, expected, config):
    """How far two trainings ended from each other, as a share of how far the second one went; for bf16, where Adam makes
    a whole step of the sign of a gradient that rounds to either side of 0."""
    start = {
        f"weights/{name}": parameter.detach()
        for name, parameter in build(ToyTrainingConfig(**config)).named_parameters()
    }
    apart = sum(float((state[name] - expected[name]).square().sum()) for name in start)
    return (apart / sum(float((expected[name] - value).square().sum()) for name, value in start.items())) ** 0.5


def set_sizes(persistent, chunk_tokens):
    """Set from which size on ZeRO 3 shares out a parameter, and how many tokens a call of the head takes; returns those before.

    With the smallest, everything is shared out, and processes call the head a different number of times.
    """
    from alignflow.models import head
    from alignflow.models.engines import deepspeed_engine

    before = deepspeed_engine.PERSISTENT, head.CHUNK_TOKENS["cpu"]
    deepspeed_engine.PERSISTENT, head.CHUNK_TOKENS["cpu"] = persistent, chunk_tokens
    return before


def group_figures():
    """What this process sees of the group."""
    rank = group.rank()
    whole = group.sum_tensor(torch.arange(3) + rank)
    return {
        "rank": rank,
        "size": group.size(),
        "main": group.is_main(),
        "share": group.share(list("abcde")),
        "sum_all": group.sum_all({"b": rank + 1.0, "a": 0.1}),
        "sum_tensor": whole.tolist(),
        "type": str(whole.dtype),
        "gather": group.gather({"rank": rank, "text": "é" * (1 + 3 * rank)}),
        "anywhere": [group.anywhere(rank == 1), group.anywhere(False)],
    }


if __name__ == "__main__":  # under torchrun: python training_support.py CELLS.json ROOT
    from alignflow.worker import LastAct, die_with_parent, prepare_process

    die_with_parent()
    last_act = LastAct()
    prepare_process(Runtime())
    torch.set_num_threads(1)
    group.join(Runtime())
    set_sizes(persistent=0, chunk_tokens=16)
    for name, cell in json.loads(Path(sys.argv[1]).read_text()).items():
        run_cell(Path(sys.argv[2]) / name, cell["config"], {"engine": "deepspeed", **cell["runtime"]})
    Path(sys.argv[2], f"group-{group.rank()}.json").write_text(json.dumps(group_figures()))
    print("all cells ended", flush=True)
    last_act.status = 0
