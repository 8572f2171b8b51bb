"""A judge behind an endpoint: log-probabilities where there are some, else frequencies of sampled verdicts."""

import math

import pytest
from stand_in_server import share_of, standing_in

from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.options import JudgeModelOptions
from alignflow.data.run import Run, Runtime
from alignflow.models.generation.base import Sampling
from alignflow.models.judges.chat_judge_model import NO_OPTION, NOT_LISTED, ChatJudgeModel
from alignflow.models.judges.judge_model import TOO_LONG, Question, make_judge_model


@pytest.fixture
def run(tmp_path):
    for name in ("out", "side", "work"):
        (tmp_path / name).mkdir()
    return Run(
        out=tmp_path / "out", side=tmp_path / "side", work=tmp_path / "work", rows=tmp_path / "rows", runtime=Runtime()
    )


@pytest.fixture
def judge(run):
    made = []

    def make(server, arguments=None, **options):
        config = GeneratorConfig(
            name="server", options={"urls": [server.url], "model": "m", "max_retries": 0, **options}
        )
        made.append(make_judge_model(run.out, JudgeModelOptions(chat_template_kwargs=arguments or {}), config, run))
        return made[-1]

    yield make
    for each in made:
        each.close()


def question(number, opening=""):
    return Question(({"role": "user", "content": f"question {number}"},), opening)


def share(number):
    return share_of({"messages": [{"role": "user", "content": f"question {number}"}]})


def test_an_endpoint_is_read_by_the_chat_judge_and_says_what_lay_on_the_options(judge):
    with standing_in() as server:
        model = judge(server)
        assert isinstance(model, ChatJudgeModel)
        for number, reading in enumerate(model.read([question(number) for number in range(5)], ("A", "B"))):
            assert reading.probabilities[0] == pytest.approx(share(number)) and reading.mass == pytest.approx(0.9)
            assert reading.samples == 0


def test_sampled_verdicts_are_frequencies_near_the_probability_and_are_said(judge, run):
    with standing_in(logprobs=False) as server:
        readings = judge(server, samples=400).read([question(number) for number in range(2)], ("A", "B"))
        for number, reading in enumerate(readings):
            assert reading.samples == 400 and reading.mass == pytest.approx(1.0)
            assert reading.probabilities[0] == pytest.approx(share(number), abs=0.1)
        assert len(server.answers) == 800 and set(server.answers.values()) == {1}, "each sample has a seed of its own"
    assert any("frequencies of only 400 sampled verdicts" in warning for warning in run.warnings)


def test_never_reads_no_log_probabilities_though_there_are_some(judge):
    with standing_in() as server:
        (reading,) = judge(server, logprobs="never", samples=3).read([question(1)], ("A", "B"))
        assert reading.samples == 3 and server.asked == 3
        assert not any(body.get("logprobs") for body in server.bodies)


def replying(text="", listed=None):
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    if listed is not None:
        choice["logprobs"] = {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": listed}]}
    return lambda number, body: {"content": {"choices": [choice]}}


def test_a_sampled_answer_that_is_no_option_gives_no_label_and_never_one_half(judge):
    with standing_in(logprobs=False, behave=replying("I cannot say.")) as server:
        (reading,) = judge(server, samples=3).read([question(1)], ("A", "B"))
        assert (reading.logps, reading.reason, reading.probabilities, reading.mass) == (None, NO_OPTION, None, None)


def test_marks_around_an_option_do_not_hide_it(judge):
    with standing_in(logprobs=False, behave=replying(" **[[B]]**. \n")) as server:
        (reading,) = judge(server, samples=2).read([question(1)], ("A", "B"))
        assert reading.probabilities == (0.0, 1.0)


def test_options_that_are_not_listed_give_no_label(judge):
    with standing_in(behave=replying("x", [{"token": "x", "logprob": -0.1}])) as server:
        (reading,) = judge(server).read([question(1)], ("A", "B"))
        assert (reading.logps, reading.reason) == (None, NOT_LISTED)


def test_a_question_that_is_too_long_gives_no_label(judge):
    refusal = {"error": {"message": "maximum context length is 8 tokens", "code": "context_length_exceeded"}}
    with standing_in(behave=lambda number, body: {"status": 400, "content": refusal}) as server:
        model = judge(server)
        assert model.read([question(1)], ("A", "B"))[0].reason == TOO_LONG
        assert model.write([question(1)], Sampling(5), [0])[0].reason == TOO_LONG


def test_an_opening_becomes_a_turn_after_which_the_option_is_asked_for(judge):
    with standing_in() as server:
        judge(server).read([question(1, opening="Both are fine, but")], ("A", "B"))
        roles = [(message["role"], message["content"]) for message in server.bodies[-1]["messages"]]
        assert roles == [
            ("user", "question 1"),
            ("assistant", "Both are fine, but"),
            ("user", "Now give your answer alone: A or B."),
        ]


def test_what_the_judge_writes_comes_without_its_thinking(judge):
    with standing_in(behave=replying("<think>hm</think> Both are fine.")) as server:
        model = judge(server, thinking_tokens=50, arguments={"enable_thinking": True})
        (writing,) = model.write([question(1)], Sampling(20, temperature=0.7), [11])
        assert (writing.text, writing.ended, writing.reason) == ("Both are fine.", True, "")
        sent = server.bodies[-1]
        assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (70, 0.7, 11)
        assert sent["chat_template_kwargs"] == {"enable_thinking": True}


def test_thinking_without_an_end_is_no_answer(judge):
    with standing_in(behave=replying("<think>hm, A")) as server:
        (writing,) = judge(server).write([question(1)], Sampling(20), [0])
        assert (writing.text, writing.ended) == ("", False)


def test_no_questions_ask_nothing(judge):
    with standing_in() as server:
        model = judge(server)
        assert model.read([], ("A", "B")) == [] and model.write([], Sampling(3), []) == [] and not server.bodies


def test_the_frequency_of_an_option_that_never_came_is_zero(judge):
    with standing_in(logprobs=False, behave=replying("A")) as server:
        (reading,) = judge(server, samples=2).read([question(1)], ("A", "B"))
        assert reading.logps == (0.0, -math.inf)
