"""Tokens are heard as they are drawn, and they are those that the engine draws anyway."""

import pytest

from alignflow.data.run import Runtime
from alignflow.models.generation.base import Sampling
from alignflow.models.generation.streaming import StreamingGenerator

PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    from tiny_model import make_checkpoint

    return StreamingGenerator(make_checkpoint(tmp_path_factory.mktemp("stream")), Runtime())


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:1]], ids=["several tokens", "one token"])
def test_every_token_but_the_last_one_is_heard_and_none_of_the_prompt(generator, prompt):
    heard = []
    made = generator.stream(prompt, Sampling(6), 3, heard.append)
    assert made.ids and heard == list(made.ids if made.ended else made.ids[:-1])
    assert made == generator.generate([prompt], Sampling(6), [3])[0]


def test_nothing_is_heard_outside_of_a_stream(generator):
    heard = []
    generator.stream(PROMPT, Sampling(2), 0, heard.append)
    before = len(heard)
    generator.generate([PROMPT], Sampling(4), [0])
    assert len(heard) == before
