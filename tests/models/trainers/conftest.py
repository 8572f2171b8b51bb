"""Tables that trainings learn something from in seconds."""

import pytest

from alignflow.data.records import assistant, user, write_table

WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    """The answer repeats the last word of the question."""
    root = tmp_path_factory.mktemp("demonstrations")
    rows = [
        {
            "id": f"d{i}",
            "source": "t",
            "messages": [*user(f"the {WORDS[i % 7]}"), *assistant(f"{WORDS[i % 7]} {WORDS[i % 7]}")],
        }
        for i in range(42)
    ]
    write_table(rows, "demonstrations", root / "train.parquet")
    write_table(rows[:7], "demonstrations", root / "heldout.parquet")
    return root


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
    """The answer with `cat` in it is better than the one with `dog`."""
    root = tmp_path_factory.mktemp("preferences")
    rows = [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": user(f"the {WORDS[i % 7]}"),
            "chosen": assistant(f"cat {WORDS[i % 5]}"),
            "rejected": assistant(f"dog {WORDS[(i + 1) % 5]}"),
            "chosen_ended": True,
            "rejected_ended": i % 2 == 0,
        }
        for i in range(40)
    ]
    write_table(rows, "preferences", root / "train.parquet")
    write_table(rows[:10], "preferences", root / "heldout.parquet")
    return root
