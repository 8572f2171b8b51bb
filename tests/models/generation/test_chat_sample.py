"""The stage `sample` with an endpoint: texts, how they ended, and tokens where the endpoint counts them."""

import pytest
from stand_in_server import standing_in

from alignflow.data.configs.generation import SampleConfig
from alignflow.data.errors import DataError, ModelError
from alignflow.data.records import read_table, write_table
from alignflow.models.generation.chat_sample import chat_sampling
from alignflow.models.generation.sample import sample


@pytest.fixture
def prompts(tmp_path):
    rows = [
        {"id": f"p{number}", "source": "t", "prompt": [{"role": "user", "content": f"say {number}"}]}
        for number in range(3)
    ]
    write_table(rows, "prompts", tmp_path / "prompts" / "train.parquet")
    return tmp_path / "prompts"


def config(server, **changes):
    generator = {"name": "server", "options": {"urls": [server.url], "model": "m", "max_retries": 0}}
    return SampleConfig.model_validate(
        {"n": 2, "max_new_tokens": 7, "temperature": 0.8, "generator": generator, **changes}
    )


def answering(**changes):
    def behave(number, body):
        text = f"{body['messages'][0]['content']} with {body['seed']}"
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return {"content": {"choices": [choice], "usage": {"completion_tokens": 5, "prompt_tokens": 2}, **changes}}

    return behave


def table(run):
    return read_table(run.out / "completions" / "train.parquet")


def test_every_completion_has_a_seed_of_its_own_and_the_run_says_whose_they_are(prompts, run):
    with standing_in(behave=answering()) as server:
        metrics = sample(config(server), policy=prompts, prompts=prompts, run=run)
        rows = table(run)
        assert [len(set(row["completions"])) for row in rows] == [2, 2, 2] and metrics["stop_rate"] == 1
        assert all(row["tokens"] == [5, 5] and row["completions"][0].startswith(f"say {row['id'][1]}") for row in rows)
        asked = [body for body in server.bodies if "say" in body["messages"][0]["content"]]
        assert {(body["max_tokens"], body["temperature"]) for body in asked} == {(7, 0.8)}
    assert any("not of the policy" in warning for warning in run.warnings)
    assert run.computed == 6 and run.tokens >= 6 * 7


def test_tokens_that_nobody_counted_are_missing_and_said(prompts, run):
    with standing_in(behave=answering(usage=None)) as server:
        metrics = sample(config(server), policy=prompts, prompts=prompts, run=run)
    assert [row["tokens"] for row in table(run)] == [[None, None]] * 3
    assert metrics["tokens/completion_mean"] is None
    assert any("did not count the tokens of 6 completions" in warning for warning in run.warnings)


def test_a_second_run_asks_nothing(prompts, run):
    with standing_in(behave=answering()) as server:
        sample(config(server), policy=prompts, prompts=prompts, run=run)
        asked, first = server.asked, table(run)
        sample(config(server), policy=prompts, prompts=prompts, run=run)
        assert server.asked == asked == 6 and table(run) == first


def test_a_prompt_that_is_too_long_names_its_row(prompts, run):
    refusal = {"error": {"message": "maximum context length is 2"}}
    with (
        standing_in(behave=lambda number, body: {"status": 400, "content": refusal}) as server,
        pytest.raises(DataError, match="too long") as error,
    ):
        sample(config(server), policy=prompts, prompts=prompts, run=run)
    assert error.value.where == "row p0"


def test_a_completion_that_cannot_be_read_stops_the_stage(prompts, run):
    with standing_in(behave=lambda number, body: {"content": b"nonsense"}) as server, pytest.raises(ModelError):
        sample(config(server), policy=prompts, prompts=prompts, run=run)


def test_top_k_is_refused_where_the_endpoint_has_none(prompts, run):
    with standing_in(behave=answering()) as server, pytest.raises(Exception, match="supports neither top_k"):
        sample(config(server, top_k=3), policy=prompts, prompts=prompts, run=run)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "content": "x", "tools": [{"type": "function", "function": {"name": "look"}}]},
        {"role": "tool", "content": "3"},
    ],
)
def test_a_prompt_with_tools_is_refused_and_not_sent_without_them(run, turn):
    """Seen: only role and content were sent."""
    rows = [{"id": "p0", "prompt": [turn]}]
    with standing_in(behave=answering()) as server:
        with pytest.raises(DataError, match="tools"), chat_sampling(config(server), run.work, rows, run):
            pass
        assert not server.asked
