"""A language model as judges use it."""

from __future__ import annotations

import math

import pytest
from judge_support import byte_tokenizer, logarithm

from alignflow.data.configs.options import JudgeModelOptions
from alignflow.data.records import user
from alignflow.models.generation.base import Generation, Sampling
from alignflow.models.judges import judge_model
from alignflow.models.judges.judge_model import Question, Reading, TokenJudgeModel, after_thinking


class Thinker:
    """An engine that writes a given text, and says at which text options were read."""

    context_length = 4000

    def __init__(self, text, ended=True):
        self.tokenizer, self.text, self.ended, self.scored, self.sampling = byte_tokenizer(), text, ended, [], None
        self.lengths = []

    def generate(self, prompts, sampling, seeds):
        self.sampling = sampling
        ids = self.tokenizer(self.text, add_special_tokens=False)["input_ids"][: sampling.max_new_tokens]
        return [Generation(tuple(ids), self.ended) for _ in prompts]

    def score_options(self, prompts, options):
        self.lengths += [len(ids) for ids in prompts]
        self.scored += [self.tokenizer.decode(ids) for ids in prompts]
        return [[logarithm(0.7), logarithm(0.2)] for _ in prompts]

    def close(self):
        pass


QUESTION = Question(tuple(user("which?")))


@pytest.fixture
def thinking(monkeypatch, new_run, tmp_path):
    def make(text, tokens=60, **options):
        engine = Thinker(text)
        monkeypatch.setattr(judge_model, "make_generator", lambda *_: engine)
        return TokenJudgeModel(tmp_path, JudgeModelOptions(thinking_tokens=tokens, **options), None, new_run()), engine

    return make


def test_the_options_are_read_after_the_thinking_at_the_first_word_of_the_answer(thinking):
    model, engine = thinking("<think>Both? A is fine.</think>\n\nA because")
    (reading,) = model.read([QUESTION], ("A", "B"))
    assert reading.probabilities == pytest.approx((7 / 9, 2 / 9))
    assert engine.scored[0].endswith("A is fine.</think>\n\n") and engine.sampling.max_new_tokens > 60


def test_thinking_that_does_not_end_gives_no_reading(thinking):
    model, engine = thinking("<think>" + "hm " * 100)
    assert model.read([QUESTION], ("A", "B")) == [Reading(None, "did not finish thinking")] and not engine.scored
    assert model.write([QUESTION], Sampling(8), [0])[0].reason == "did not finish thinking"


def test_a_question_that_leaves_no_room_to_think_is_too_long(thinking):
    model, _ = thinking("x", max_length=64)
    assert model.read([QUESTION], ("A", "B"))[0].reason == "too long"


def test_what_is_written_is_what_follows_the_thinking(thinking):
    model, _ = thinking("why not</think>\nIt is A.")
    writing = model.write([QUESTION], Sampling(30), [0])[0]
    assert writing.text == "It is A." and writing.tokens == len("It is A.") + 1


def test_a_model_that_does_not_think_is_read_at_once(thinking):
    model, engine = thinking("", tokens=0)
    model.read([QUESTION], ("A", "B"))
    assert engine.sampling is None and engine.scored[0].endswith(">")


@pytest.mark.parametrize(
    ("text", "rest"), [("a</think> b", "b"), ("</think>", ""), ("a</think>b</think>c", "b</think>c")]
)
def test_the_place_after_the_thinking(text, rest):
    tokenizer = byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids[after_thinking(tokenizer, ids) :]) == rest
    assert after_thinking(tokenizer, ids[:3]) is None or text.startswith("</think>")


def test_a_log_probability_that_is_not_a_number_gives_no_probabilities():
    assert Reading((math.nan, 0.0)).probabilities is None and Reading((0.0, math.nan)).mass is None


def test_probabilities_are_those_among_the_options_and_the_mass_is_that_among_all():
    reading = Reading((math.log(0.3), math.log(0.1)))
    assert reading.probabilities == pytest.approx((0.75, 0.25))
    assert reading.mass == pytest.approx(0.4)


def test_a_missing_reading_has_neither_probabilities_nor_mass():
    assert Reading(None, "too long").probabilities is None and Reading(None, "too long").mass is None


def test_options_that_are_all_impossible_have_no_probabilities():
    assert Reading((-math.inf, -math.inf)).probabilities is None


def test_the_stage_counts_the_tokens_of_questions(monkeypatch, new_run, tmp_path):
    engine, run = Thinker("A"), new_run()
    monkeypatch.setattr(judge_model, "make_generator", lambda *_: engine)
    model = TokenJudgeModel(tmp_path, JudgeModelOptions(), None, run)
    model.read([QUESTION, QUESTION], ("A", "B"))
    assert len(engine.lengths) == 2 and run.tokens == sum(engine.lengths) > 0
