"""A tiny model with a real byte-level tokenizer, and hands for stage bodies."""

import torch
from safetensors.torch import load_file, save_file

from alignflow.data.configs.inputs import BuildConfig, InitConfig, SourceConfig
from alignflow.data.run import Run, Runtime
from alignflow.models.initialise import initialise
from alignflow.models.reward_model import build_reward_model

TEXT = "the cat sat on the mat and the dog ran to the red house with a small bird while rain fell on green hills. "


def make_run(root, **runtime):
    """A Run with directories below `root`."""
    places = {name: root / name for name in ("out", "side", "work", "rows")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    return Run(**places, runtime=Runtime(**runtime))


def make_checkpoint(root, **changes):
    """Directory of a two-layer Llama whose tokenizer knows TEXT; `changes` are fields of its shape."""
    corpus = root / "corpus.txt"
    corpus.write_text((TEXT * 3 + "\n\n") * 4)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 320,
        "max_position_embeddings": 128,
    }
    run = make_run(root / "init")
    build = BuildConfig(**{**shape, **changes})
    initialise(InitConfig(build=build, corpus=(SourceConfig(path=str(corpus), format="text"),)), run=run)
    return run.out


def wide_awake(path):
    """Give a checkpoint weights that are large enough for answers that differ and end; in place."""
    file = path / "model.safetensors"
    tensors, generator = load_file(file), torch.Generator().manual_seed(0)
    for name in sorted(tensors):
        if (values := tensors[name]).dim() > 1:
            values.normal_(0, 0.15, generator=generator)
    save_file(tensors, file, metadata={"format": "pt"})
    return path


def make_reward_model(base, seed=0, runtime=None):
    """A reward model whose head is not the zeros that it starts with, so that its scores tell rows apart."""
    reward = build_reward_model(base, runtime or Runtime())
    with torch.no_grad():
        reward.model.score.weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(seed))
    return reward
