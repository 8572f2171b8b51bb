"""A recipe that merges trains both adapters from the base, and says so; what cannot be merged is refused before anything runs."""

import pytest

from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.graph import nodes
from alignflow.flows.merges import merge_lines
from alignflow.flows.steps import Link, upstream

SOURCE = [{"path": "file.jsonl"}]
LORA = {"lora": {"r": 4}}


def recipe(**content):
    given = {
        "model": {"path": "m"},
        "data": {"demonstrations": SOURCE, "preferences": SOURCE},
        "sft": LORA,
        "align": LORA,
        "merge": {},
    }
    return Recipe.model_validate({**given, **content})


def steps(**content):
    return {node.name: node for node in nodes(recipe(**content))}


def test_both_adapters_train_from_the_base_and_the_merge_is_evaluated():
    made = steps()
    assert list(made) == ["init", "prepare", "sft", "reference", "align", "merge", "evaluate", "report"]
    assert made["sft"].inputs["base"] == made["align"].inputs["policy"] == Link("init")
    assert made["reference"].inputs["checkpoint"] == Link("init")
    assert made["merge"].inputs == {"base": Link("init"), "sft": Link("sft"), "aligned": Link("align")}
    assert (made["evaluate"].inputs["aligned"], made["evaluate"].inputs["sft"]) == (Link("merge"), Link("sft"))
    assert made["report"].inputs["merge"] == Link("merge")


def test_neither_of_the_two_needs_the_other_even_where_answers_are_sampled():
    made = list(steps(data={"demonstrations": SOURCE, "prompts": SOURCE}, reward={}).values())
    assert "sft" not in upstream(made, "align") and "align" not in upstream(made, "sft")
    assert {"sample", "label", "reward"} <= {node.name for node in made}


def test_without_a_section_merge_the_sft_model_is_aligned():
    made = steps(merge=None)
    assert made["align"].inputs["policy"] == Link("sft") and "merge" not in made
    assert made["evaluate"].inputs["aligned"] == Link("align")


@pytest.mark.parametrize("method", ["orpo", "kto", "tdpo1"])
def test_any_method_on_data_that_is_there_can_be_merged(method):
    assert steps(align={**LORA, "method": method})["merge"].inputs["aligned"] == Link("align")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"sft": {}}, "sft trains all weights\n  set sft.lora"),
        ({"align": {}}, "align trains all weights\n  set align.lora"),
        (
            {"align": {**LORA, "method": "sdpo"}},
            "align.2 starts from the model of an earlier round\n  choose an align.method without rounds",
        ),
        ({"sft": None}, "sft is null\n  add a section sft with lora"),
        ({"align": None}, "align is null\n  add a section align with lora"),
        ({"replace": {"sft": "mine"}}, "replace.sft brings a model\n  remove replace.sft"),
        ({"replace": {"align": "mine"}}, "replace.align brings a model\n  remove replace.align"),
        ({"data": {"preferences": SOURCE}}, "without data.demonstrations no SFT runs\n  set data.demonstrations"),
    ],
)
def test_what_has_no_two_adapters_is_refused(content, said):
    with pytest.raises(RecipeError) as refused:
        nodes(recipe(**content))
    assert f"merge: it merges the adapters of sft and align, but {said}" in str(refused.value)


def test_the_plan_says_what_starts_from_what():
    assert merge_lines(recipe(), steps()) == [
        "align: starts from the base instead of from the sft model, with the base as its reference; neither of the two needs the other",
        "merge: the adapters of sft and align by ties; evaluate compares the result with the sft model",
    ]
    free = {"align": {**LORA, "method": "simpo"}, "evaluate": None, "data": {"demonstrations": SOURCE}}
    assert merge_lines(recipe(**free), steps(**free)) == [
        "sample: the base answers the prompts, not the sft model: set data.preferences if it cannot",
        "align: starts from the base instead of from the sft model; neither of the two needs the other",
        "merge: the adapters of sft and align by ties",
    ]
    scored = {
        "align": {"method": "dro_v", "lora": {}},
        **{name: value for name, value in free.items() if name != "align"},
    }
    assert "set data.rankings if it cannot" in merge_lines(recipe(**scored), steps(**scored))[0]
    assert merge_lines(recipe(merge=None), steps(merge=None)) == []
