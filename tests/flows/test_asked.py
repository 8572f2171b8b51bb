"""What a plan says of questions to endpoints, their tokens and their cost."""

import json

import pytest

from alignflow.data.configs.loading import load_recipe
from alignflow.flows.asked import asked_lines
from alignflow.flows.calls import plan


def lines(repository, store, judge="llm", own=None, **options):
    given = {"urls": ["http://127.0.0.1:1/v1"], "model": "gpt-x", **options}
    label = {"name": judge, "options": own or {}, "generator": {"name": "server", "options": given}}
    settings = ["sft=null", f"label.judge={json.dumps(label)}"]
    recipe = load_recipe(repository / "recipes" / "tiny.yaml", settings)
    return asked_lines(recipe, plan(recipe, store), store)


def test_before_the_data_is_prepared_it_says_what_each_prompt_asks(repository, store):
    (label, evaluate) = lines(repository, store)
    assert label == (
        "label: 6 requests to gpt-x for each prompt (3 pairs in both orders); how many prompts there are is known once prepare has run"
    )
    assert evaluate.startswith("evaluate: 2 requests to gpt-x for each prompt")


def test_then_it_says_how_many_requests_tokens_and_what_they_cost(repository, store, made):
    label, evaluate = lines(
        repository, store, price_per_million_input=100.0, price_per_million_output=1000.0, max_cost=1.0
    )
    assert label.startswith("label: about 240 requests to gpt-x (3 pairs in both orders, 40 prompts), at most about ")
    tokens = int(label.split("at most about ")[1].split(" tokens")[0].replace(",", ""))
    assert 240 * 200 < tokens < 240 * 300
    cost = float(label.split(": ")[-1].split(" USD")[0])
    assert abs(cost - (tokens * 100 + 240 * 1000) / 1e6) < 0.006
    assert label.endswith("which may reach max_cost 1")
    assert "2 requests" not in evaluate and "about 24 requests to gpt-x" in evaluate


def test_sampled_verdicts_are_asked_several_times(repository, store, made):
    label, _ = lines(repository, store, logprobs="never", samples=4)
    assert label.startswith("label: about 960 requests to gpt-x (3 pairs in both orders, 4 samples each, 40 prompts)")


def test_a_recipe_without_endpoints_has_nothing_to_say(repository, store):
    recipe = load_recipe(repository / "recipes" / "tiny.yaml")
    assert asked_lines(recipe, plan(recipe, store), store) == []


@pytest.mark.parametrize(
    ("judge", "own", "each", "what"),
    [
        ("llm", {"rationale": True}, 12, "3 pairs in both orders, a rationale before each verdict"),
        ("constitutional", {}, 6, "3 pairs in both orders"),
        ("constitutional", {"mode": "each", "principles": "aspects"}, 24, "by each of 4 principles"),
        ("rating", {}, 3, "3 answers"),
        ("rating", {"rubric": "aspects"}, 12, "3 answers, 4 aspects each"),
        ("additive", {"samples": 5}, 15, "3 answers, 5 replies each"),
        ("checklist", {}, 19, "3 answers, a checklist of up to 6 points"),
        ("checklist", {"points": "aspects"}, 12, "3 answers, 4 points each"),
    ],
)
def test_every_request_of_a_judge_is_counted(repository, store, judge, own, each, what):
    """Seen: a judge with a rationale, several aspects or a checklist was planned at one request a question."""
    line = lines(repository, store, judge, own)[0]
    assert line.startswith(f"label: {each} requests to gpt-x for each prompt (") and what in line


def test_long_replies_are_in_the_tokens(repository, store, made):
    label = lines(repository, store, "llm", {"rationale": True, "rationale_tokens": 100})[0]
    assert label.endswith(f"tokens asked and {40 * 6 * 101:,} answered")


def test_each_member_of_a_jury_is_counted(repository, store):
    server = {"name": "server", "options": {"urls": ["http://127.0.0.1:1/v1"], "model": "gpt-x"}}
    judges = [{"name": "llm", "generator": server}, {"name": "rating", "generator": server}]
    recipe = load_recipe(
        repository / "recipes" / "tiny.yaml",
        ["sft=null", f"label.judge={json.dumps({'name': 'jury', 'options': {'judges': judges}})}"],
    )
    told = [line for line in asked_lines(recipe, plan(recipe, store), store) if line.startswith("label")]
    assert [line.split(" requests")[0] for line in told] == ["label: 6", "label: 3"]
