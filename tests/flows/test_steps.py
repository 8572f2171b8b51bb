"""Steps of a run: selections by name, and what depends on what."""

import pytest

from alignflow.data.configs.options import NoOptions
from alignflow.data.errors import RecipeError
from alignflow.flows.steps import Link, Node, downstream, named_steps, upstream


def node(name, round=0, **inputs):
    return Node(name, name.partition(".")[0], NoOptions(), {key: Link(value) for key, value in inputs.items()}, round)


STEPS = [
    node("sft"),
    node("reference.1", 1, checkpoint="sft"),
    node("align.1", 1, policy="sft", reference="reference.1"),
    node("align.2", 2, policy="align.1"),
    node("evaluate", aligned="align.2", sft="sft"),
]


def test_a_step_of_a_round_belongs_to_the_section_of_its_name():
    assert [each.base for each in STEPS] == ["sft", "reference", "align", "align", "evaluate"]


def test_a_name_means_its_step_or_all_its_rounds():
    assert named_steps(STEPS, "align") == ["align.1", "align.2"]
    assert named_steps(STEPS, "align.2") == ["align.2"] and named_steps(STEPS, "sft") == ["sft"]


@pytest.mark.parametrize(("name", "near"), [("align.3", "align"), ("evalute", "evaluate"), ("sft.1", "sft")])
def test_an_unknown_name_is_refused_with_the_nearest(name, near):
    with pytest.raises(RecipeError, match=f"no step '{name}'") as error:
        named_steps(STEPS, name)
    assert near in str(error.value)


def test_upstream_and_downstream_follow_the_links_over_rounds():
    assert upstream(STEPS, "align.2") == {"align.1", "reference.1", "sft"} and upstream(STEPS, "sft") == set()
    assert downstream(STEPS, "align.1") == {"align.2", "evaluate"} and downstream(STEPS, "evaluate") == set()


@pytest.mark.parametrize("start", [each.name for each in STEPS])
def test_a_step_is_downstream_of_what_is_upstream_of_it(start):
    assert all(start in downstream(STEPS, name) for name in upstream(STEPS, start))
