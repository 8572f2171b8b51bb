import math
from types import SimpleNamespace

import pytest
from tiny_model import make_checkpoint

from alignflow.data.errors import ModelError
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Generation
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.generation.verification import (
    BF16_MEAN,
    BF16_MOST,
    TOKENS,
    Expected,
    compared,
    expectations,
    forced_logps,
    probe_rows,
    too_far,
    verify,
)

TRUE = (-0.5, -1.0, -2.0)
EXPECTED = Expected(prompts=((1, 2),), tokens=((5, 6, 7),), logps=(TRUE,))


class Engine:
    """Says `tokens` greedily, and for token number n of a continuation the log-probability `logps[n]`."""

    def __init__(self, tokens=(5, 6, 7), logps=TRUE, other=-9.0, stop=None):
        self.tokens, self.logps, self.other, self.stop = tokens, logps, other, stop

    def generate(self, prompts, sampling, seeds):
        assert sampling.temperature == 0
        return [Generation(tuple(self.tokens), self.stop is not None, self.stop) for _ in prompts]

    def score_options(self, prompts, options):
        rows = []
        for prompt in prompts:
            place = len(prompt) - 2
            rows.append([self.logps[place] if option == (5, 6, 7)[place] else self.other for option in options])
        return rows


def test_an_engine_that_says_the_same_agrees():
    found = verify(Engine(), EXPECTED, "fp32", "engine")
    assert (found.tokens, found.mean, found.most) == (3, 0.0, 0.0)


def test_other_greedy_tokens_in_fp32_are_an_error_that_names_them():
    with pytest.raises(ModelError, match=r"after 1 equal greedy tokens it continues with \[8, 7\], .* with \[6, 7\]"):
        verify(Engine(tokens=(5, 8, 7)), EXPECTED, "fp32", "engine")


def test_tokens_that_are_equally_likely_but_for_rounding_are_one_choice():
    assert verify(Engine(tokens=(5, 8, 7), other=-1.0 - 1e-5), EXPECTED, "fp32", "engine").most == 0


def test_a_continuation_that_stops_earlier_is_an_error():
    with pytest.raises(ModelError, match=r"after 2 equal greedy tokens it continues with \[\]"):
        verify(Engine(tokens=(5, 6)), EXPECTED, "fp32", "engine")


def test_the_stop_token_counts():
    assert verify(Engine(tokens=(5, 6), stop=7), EXPECTED, "fp32", "engine").most == 0
    with pytest.raises(ModelError, match="greedy tokens"):
        verify(Engine(tokens=(5, 6), stop=8), EXPECTED, "fp32", "engine")


def test_other_log_probabilities_behind_equal_tokens_are_an_error_in_fp32():
    with pytest.raises(ModelError, match="differ by up to 0.01"):
        verify(Engine(logps=(-0.5, -1.01, -2.0)), EXPECTED, "fp32", "engine")


def test_in_bf16_the_log_probabilities_of_the_same_tokens_are_compared_and_not_the_greedy_ones():
    near = tuple(value + BF16_MEAN / 2 for value in TRUE)
    assert verify(Engine(tokens=(9, 9, 9), logps=near), EXPECTED, "bf16", "engine").most == pytest.approx(0.05)


@pytest.mark.parametrize(
    "logps",
    [
        tuple(value - 1.1 * BF16_MEAN for value in TRUE),
        (TRUE[0], TRUE[1], TRUE[2] - 1.1 * BF16_MOST),
        (TRUE[0], math.nan, TRUE[2]),
        (TRUE[0], -math.inf, TRUE[2]),
    ],
    ids=["on average", "at most", "nan", "infinite"],
)
def test_what_is_beyond_the_tolerance_in_bf16_is_an_error(logps):
    with pytest.raises(ModelError, match="differ from those of the trainer's model"):
        verify(Engine(logps=logps), EXPECTED, "bf16", "engine")


def test_forced_log_probabilities_are_those_after_the_tokens_before():
    assert forced_logps(Engine(), EXPECTED.prompts, EXPECTED.tokens) == (TRUE,)


def test_the_trainers_model_agrees_with_itself_and_its_prompts_fit_its_context(tmp_path):
    trusted = TransformersGenerator(make_checkpoint(tmp_path), Runtime())
    expected = expectations(trusted)
    assert all(len(prompt) + TOKENS <= trusted.context_length for prompt in expected.prompts)
    assert [len(row) for row in expected.tokens] == [len(row) for row in expected.logps]
    assert verify(trusted, expected, "fp32", "itself").most < 1e-5


def test_a_context_without_room_is_an_error():
    with pytest.raises(ModelError, match="no room"):
        expectations(SimpleNamespace(context_length=TOKENS, tokenizer=lambda text: {"input_ids": [1]}))


def test_the_fixed_texts_are_rows_that_fit_the_context_and_the_longest_fills_a_block_of_a_prefix_cache(tmp_path):
    engine = TransformersGenerator(make_checkpoint(tmp_path), Runtime())
    rows = probe_rows(engine.tokenizer, 128)
    assert len(rows) == 5 and all(0 < len(row.completion_ids) <= TOKENS and row.prompt_ids for row in rows)
    assert max(len(row.prompt_ids) for row in rows) > 32
    assert all(len(row) <= 8 for row in probe_rows(engine.tokenizer, 8))
    with pytest.raises(ModelError, match="no room"):
        probe_rows(engine.tokenizer, 1)


def test_an_engine_is_near_enough_within_the_tolerance_which_grows_for_tokens_that_are_hardly_possible():
    assert not too_far(compared([-1.0005, -2.0], [-1.0, -2.0]), "fp32")
    assert "allowed in fp32: 0.001" in too_far(compared([-1.002, -2.0], [-1.0, -2.0]), "fp32")
    assert not too_far(compared([-30.0025], [-30.0]), "fp32") and too_far(compared([-30.0035], [-30.0]), "fp32")
    assert not too_far(compared([-1.2, -2.0, -1.0], [-1.0, -2.0, -1.0]), "bf16")
    assert too_far(compared([-1.2] * 3, [-1.0] * 3), "bf16") and too_far(
        compared([-1.4, -1.0, -1.0, -1.0, -1.0], [-1.0] * 5), "bf16"
    )
    assert too_far(compared([math.nan], [-1.0]), "fp32") and too_far(compared([-math.inf], [-1.0]), "bf16")
