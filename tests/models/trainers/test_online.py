"""Training on sampled answers: it learns what its reward says, loses nothing to a kill, and says what goes wrong."""

import json

import pytest
from safetensors.torch import load_file

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import AlignConfig, RewardConfig
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.data.records import assistant, user, write_table
from alignflow.models.trainers.alignment import align
from alignflow.models.trainers.reward import train_reward
from alignflow.models.trainers.saved_state import SavedStates

WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]
CODE = """
def cats(prompt, completion, row):
    assert prompt[0]["role"] == "user" and row["id"]
    return float(completion.count("cat"))

def sometimes(prompt, completion, row):
    if len(completion) % 2:
        raise ValueError("odd")
    return 1.0

def never(prompt, completion, row):
    return None

def longer(prompt, completion, row):
    return len(completion) / 10
"""


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    root = tmp_path_factory.mktemp("prompts")
    rows = [{"id": f"q{i}", "source": "t", "prompt": user(f"the {WORDS[i % 7]} {WORDS[i % 3]}"), "instructions": None} for i in range(12)]
    write_table(rows, "prompts", root / "train.parquet")
    return root


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory):
    root = tmp_path_factory.mktemp("demonstrations")
    rows = [{"id": f"d{i}", "source": "t", "messages": [*user(f"the {WORDS[i % 7]}"), *assistant("the cat sat")]} for i in range(6)]
    write_table(rows, "demonstrations", root / "train.parquet")
    return root


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory, tiny_checkpoint):
    """A small reward model that prefers `cat` to `dog`."""
    from conftest_of_models import make_run

    root = tmp_path_factory.mktemp("reward")
    rows = [
        {"id": f"p{i}", "source": "t", "prompt": user(f"the {WORDS[i % 7]}"), "chosen": assistant(f"cat {WORDS[i % 5]}"),
         "rejected": assistant(f"dog {WORDS[(i + 1) % 5]}"), "chosen_ended": True, "rejected_ended": True}
        for i in range(20)
    ]  # fmt: skip
    for side in ("train", "heldout"):
        write_table(rows, "preferences", root / f"{side}.parquet")
    run = make_run(root / "run")
    train_reward(
        RewardConfig(learning_rate=5e-3, max_steps=8, batch_size=20, max_length=64), base=tiny_checkpoint, preferences=root, run=run
    )
    return run.out
