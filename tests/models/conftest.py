"""A tiny model, made once per session, and hands for stage bodies."""

import pytest
from tiny_model import make_checkpoint, make_run


@pytest.fixture
def new_run(tmp_path):
    """Make a Run by name; equal names share their directories."""
    return lambda name="run", **runtime: make_run(tmp_path / name, **runtime)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Directory of a two-layer Llama with a byte-level tokenizer."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))
