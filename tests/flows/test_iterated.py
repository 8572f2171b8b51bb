"""Rounds of sample, label and train: their order, their references, what one more costs, and what one of them may have otherwise."""

import pytest
from flow_support import publish_all

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.calls import Caller, plan
from alignflow.flows.deployed import stage_flow
from alignflow.flows.graph import nodes
from alignflow.flows.inputs import find_inputs, steps_of
from alignflow.flows.remarks import planned
from alignflow.flows.requests import request
from alignflow.flows.steps import Link, downstream

SPPO = ("align.method=sppo", "rounds.number=2", "reward=null")
ROUND = ("sample", "label", "reference", "align")


@pytest.fixture
def load(repository):
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", settings)


def by_name(recipe):
    return {node.name: node for node in nodes(recipe)}


def test_each_round_samples_from_the_model_before_and_learns_from_what_is_labelled_of_that(load):
    steps = by_name(load(*SPPO))
    rounds = [f"{base}.{number}" for number in (1, 2) for base in ROUND]
    assert list(steps) == ["init", "prepare", "sft", *rounds, "evaluate", "report"]
    for number, start in ((1, "sft"), (2, "align.1")):
        table = Link(f"label.{number}", "win_rates")
        assert steps[f"sample.{number}"].inputs["policy"] == Link(start)
        assert steps[f"label.{number}"].inputs == {"completions": Link(f"sample.{number}", "completions")}
        assert steps[f"reference.{number}"].inputs == {"checkpoint": Link(start), "win_rates": table}
        assert steps[f"align.{number}"].inputs == {
            "policy": Link(start),
            "reference": Link(f"reference.{number}"),
            "win_rates": table,
        }
    assert steps["evaluate"].inputs["aligned"] == Link("align.2") and steps["evaluate"].inputs["sft"] == Link("sft")


@pytest.mark.parametrize(
    ("method", "reference", "checkpoint"),
    [
        ("iterative_dpo", None, "sft"),
        ("sppo", None, "align.1"),
        ("dno", None, "align.1"),
        ("dno_prct", None, "align.1"),
        ("self_rewarding", None, "align.1"),
        ("dpo", None, "sft"),
        ("dpo", "previous", "align.1"),
        ("sppo", "initial", "sft"),
    ],
)
def test_whom_the_second_round_compares_with(load, method, reference, checkpoint):
    asked = () if reference is None else (f"rounds.reference={reference}",)
    steps = by_name(load(*SPPO, f"align.method={method}", *asked))
    assert steps["reference.2"].inputs["checkpoint"] == Link(checkpoint)
    assert steps["align.2"].inputs["policy"] == Link("align.1"), (
        "whatever it compares with, it starts from the round before"
    )


def test_one_round_more_runs_that_round_alone(load, store):
    publish_all(load(*SPPO), store)
    states = {step.name: step.state for step in plan(load(*SPPO, "rounds.number=3"), store)}
    assert {name for name, state in states.items() if state != "cached"} == {
        *(f"{base}.3" for base in ROUND),
        "evaluate",
        "report",
    }


def test_a_label_stage_run_again_with_another_judge_runs_what_follows_and_nothing_else(load, store):
    recipe = load(*SPPO, "rounds.number=3")
    publish_all(recipe, store)
    other = load(*SPPO, "rounds.number=3", "label.2.judge.name=llm")
    states = {step.name: step.state for step in plan(other, store)}
    again = {name for name, state in states.items() if state != "cached"}
    assert again == {"label.2", *downstream(nodes(recipe), "label.2")}
    assert "label.3" in again and "sample.2" not in again and "label.1" not in again
    steps = by_name(other)
    assert [steps[f"label.{number}"].config.judge.name for number in (1, 2, 3)] == ["rubric", "llm", "rubric"]
    assert steps["label.2"].config.judge.options == {}, "the options of a rubric mean nothing to another judge"
    assert steps["label.2"].inputs["policy"] == Link("sft"), "what the other judge needs is linked"
    assert steps["evaluate"].config == by_name(recipe)["evaluate"].config


def test_the_form_of_a_stage_changes_the_round_that_it_names_alone(load, store, repository):
    publish_all(load(*SPPO), store)
    form = stage_flow("label").parameters.properties
    assert {"round", "settings"} <= set(form)
    settings = stage_flow("label").fn.__annotations__["settings"](judge_name="llm")
    asked = request(str(repository / "recipes" / "tiny.yaml"), settings, SPPO, of_round=("label", 2)).recipe()
    caller = Caller(asked, store)
    steps = steps_of(caller, "label.2", follow=True)
    assert {"label.2", "reference.2", "align.2", "evaluate", "report"} == steps
    assert find_inputs(caller, steps, "label.2", {}).foreign == set(), "all that it takes is as the recipe says"


def test_a_field_alone_of_the_sections_judge_keeps_the_rest(load):
    changes = ("label.2.judge.options.constitution=reader", "align.2.learning_rate=0.001", "evaluate=null")
    steps = by_name(load(*SPPO, *changes))
    assert steps["label.2"].config.judge.options["constitution"] == "reader"
    assert steps["label.1"].config.judge.options["constitution"] == "helpful"
    assert (steps["align.1"].config.learning_rate, steps["align.2"].config.learning_rate) == (1e-4, 0.001)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("label.3.batch_size=4",), "no step label.3"),
        (("label.2.batch=4",), "batch"),
        (("rounds.overrides={sft.1: {seed: 1}}",), "no step of a round"),
        (("align.method=sdpo",), "already has rounds"),
        (("align.method=ppo",), "samples as it trains"),
        (("align.method=gkd", "align.options={teacher: ../recipes}"), "learns from demonstrations"),
        (("rounds.first=data",), "first round"),
        (("replace.label=../examples/quickstart/prompts.jsonl.gz",), "each round makes its own"),
        (("select={}",), "select does not produce"),
        (("align.2.method=sdpo",), "align.2: sdpo already has rounds"),
        (("align.2.method=online_dpo",), "align.2: online_dpo samples as it trains"),
        (
            ("align.method=tdpo2", "rounds.reference=initial"),
            "rounds.reference: tdpo2 runs its reference in every step",
        ),
        (("align.method=dpo", "select={}"), "select.n: one answer is kept per prompt"),
        (("data.completions=[{path: ../examples/quickstart/prompts.jsonl.gz}]",), "data.completions: each round"),
        (
            ("align.method=dpo", "rounds={reference: previous, evaluate: true}"),
            "rounds.evaluate, rounds.reference: dpo has no rounds",
        ),
        (("align.method=rso", "rounds={}", "select={rule: rso}"), "select: select keeps answers that a round"),
    ],
)
def test_rounds_that_cannot_be_are_refused(load, settings, words):
    with pytest.raises(RecipeError, match=words):
        nodes(load(*SPPO, *settings))


def test_rounds_have_seeds_and_parts_of_the_prompts_of_their_own(load):
    steps = by_name(load(*SPPO, "rounds.number=3", "seed=7"))
    assert [steps[f"sample.{number}"].config.seed for number in (1, 2, 3)] == [7, 8, 9]
    steps = by_name(load(*SPPO, "rounds.number=3", "rounds.prompt_parts=2"))
    assert [steps[f"sample.{number}"].config.prompt_part for number in (1, 2, 3)] == [1, 2, 1]


def test_a_method_takes_what_its_paper_sets_unless_the_recipe_does_and_the_plan_says_so(load):
    recipe = load("align.method=self_rewarding", "reward=null", "sample={n: 2, max_new_tokens: 8}", "label={}")
    steps = by_name(recipe)
    assert sum(name.startswith("align.") for name in steps) == 3
    assert (steps["sample.1"].config.n, steps["sample.1"].config.temperature) == (2, 0.7)
    assert steps["label.2"].config.judge.name == "additive"
    assert steps["label.2"].inputs["policy"] == Link("align.1"), "the policy of the round judges itself"
    lines = planned(recipe, list(steps.values()))
    assert any("3 rounds of self_rewarding" in line and "rounds.reference: previous" in line for line in lines)
    assert any("sample.temperature: 0.7" in line for line in lines) and not any("sample.n" in line for line in lines)
    assert LabelConfig().judge.name == "rubric"


def test_any_offline_method_may_be_the_step_of_a_round_with_the_table_that_it_reads(load):
    cringe = "align.options={alpha: 1.0, top_k: 3, b: 0.0, tau: 1.0}"
    for method, kind, options in (
        ("dpo", "preferences", "align.options={}"),
        ("kto", "unpaired", "align.options={}"),
        ("lipo", "rankings", "align.options={}"),
        ("pairwise_cringe", "preferences", cringe),
    ):
        steps = by_name(load("rounds.number=2", "reward=null", f"align.method={method}", options))
        assert steps["align.2"].inputs[kind] == Link("label.2", kind)


def test_raft_imitates_what_select_keeps_and_pairs_may_be_those_of_accepted_answers(load):
    steps = by_name(load(*SPPO, "align.method=raft"))
    assert steps["select.2"].inputs == {"rankings": Link("label.2", "rankings")}
    assert steps["align.2"].inputs == {"policy": Link("align.1"), "demonstrations": Link("select.2", "demonstrations")}
    steps = by_name(load(*SPPO, "align.method=rso", "select={rule: rso}"))
    assert steps["align.1"].inputs["preferences"] == Link("select.1", "preferences")


def test_the_first_round_may_learn_from_the_recipes_own_pairs(load):
    pairs = "data.preferences=[{path: ../examples/quickstart/prompts.jsonl.gz}]"
    steps = by_name(load(*SPPO, "align.method=dpo", pairs, "rounds.first=data"))
    assert steps["align.1"].inputs["preferences"] == Link("prepare", "preferences")
    assert "sample.1" not in steps and steps["align.2"].inputs["preferences"] == Link("label.2", "preferences")


def test_every_round_is_evaluated_where_that_is_asked_for(load):
    steps = by_name(load(*SPPO, "rounds.evaluate=true"))
    assert [steps[name].inputs["aligned"].node for name in ("evaluate.1", "evaluate.2", "evaluate")] == [
        "align.1",
        "align.2",
        "align.2",
    ]
    assert steps["evaluate.2"].config == steps["evaluate"].config, "so that the last one is found"


def test_a_reward_model_of_the_recipe_learns_from_the_first_rounds_labels(load):
    steps = by_name(load("align.method=sppo", "rounds.number=2"))
    assert steps["reward"].inputs["preferences"] == Link("label.1", "preferences")
    assert steps["evaluate"].inputs["reward_model"] == Link("reward")


def test_a_round_with_another_method_takes_what_that_method_compares_with(load):
    steps = by_name(load(*SPPO, "align.method=raft", "align.2.method=dpo"))
    assert set(steps["align.1"].inputs) == {"policy", "demonstrations"}
    assert steps["align.2"].inputs["reference"] == Link("reference.2")
    steps = by_name(load(*SPPO, "align.2.method=raft"))
    assert set(steps["align.2"].inputs) == {"policy", "demonstrations"} and "reference.2" not in steps


def test_a_method_with_its_reference_beside_it_compares_with_the_round_before_alone(load):
    steps = by_name(load(*SPPO, "align.method=tdpo2", "rounds.reference=previous"))
    assert steps["align.2"].inputs["policy"] == Link("align.1") and "reference.2" not in steps


def test_the_judge_that_evaluates_is_none_that_labelled_one_round(load):
    judges = "evaluate.judges=[{name: rubric, options: {constitution: reader}}]"
    nodes(load(*SPPO, judges))
    with pytest.raises(RecipeError, match="shares"):
        nodes(load(*SPPO, judges, "label.2.judge.options.constitution=reader"))


def test_a_round_alone_may_be_judged_by_the_reward_model_of_the_recipes_own_pairs(load):
    pairs = "data.preferences=[{path: ../examples/quickstart/prompts.jsonl.gz}]"
    steps = by_name(load("align.method=sppo", "rounds.number=2", pairs, "label.2.judge.name=reward_model"))
    assert steps["label.2"].inputs["reward_model"] == Link("reward")
    assert steps["reward"].inputs["preferences"] == Link("prepare", "preferences")


def test_rounds_without_a_training_are_refused(load):
    with pytest.raises(RecipeError, match="a round ends with a training"):
        nodes(load("align=null", "rounds.number=2"))


@pytest.mark.parametrize(
    "settings",
    [(*SPPO, "align.2.method=self_rewarding"), ("align.method=self_rewarding", "align.2.method=dpo", "reward=null")],
)
def test_a_round_in_which_another_model_would_judge_than_its_method_says_is_refused(load, settings):
    with pytest.raises(RecipeError, match="judge itself") as raised:
        nodes(load(*settings))
    assert "align.2" in str(raised.value)


def test_a_judge_of_the_recipe_and_settings_of_another_method_are_said(load):
    recipe = load("align.method=sppo", "sample.n=3", "align.2.method=raft", "reward=null")
    said = " ".join(planned(recipe, nodes(recipe)))
    assert "align.2: raft uses the sample and label values of sppo" in said
    recipe = load("align.method=self_rewarding", "reward=null")
    said = " ".join(planned(recipe, nodes(recipe)))
    assert "the recipe's judge rubric labels" in said
    for options, who in (
        ("{samples: 1}", "judges itself"),
        (f"{{model: {recipe.model.path or 'gpt2'}}}", "labels; remove"),
    ):
        judge = f"label.judge={{name: additive, options: {options}}}"
        recipe_of_own = load("align.method=self_rewarding", "reward=null", judge)
        assert who in " ".join(planned(recipe_of_own, nodes(recipe_of_own)))
