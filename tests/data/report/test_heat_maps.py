"""The heat map of token credit: colour and opacity say sign and size."""

from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.records import user
from alignflow.data.report.heat_maps import LOWERED, MOST_OPAQUE, RAISED, colour, heat_maps


def answer(model, credit, prompt="a"):
    return {"prompt": user(prompt), "model": model, "tokens": [f"t{i}" for i in range(len(credit))], "credit": credit}


def test_the_most_credit_of_a_few_tokens_is_the_most_opaque():
    first, second = heat_maps([answer("aligned", [1.0, -4.0]), answer("sft", [2.0])])
    assert [cell[2] for cell in first["cells"]] == [f"rgba({RAISED}, 0.200)", f"rgba({LOWERED}, 0.800)"]
    assert [cell[2] for cell in second["cells"]] == [f"rgba({RAISED}, 0.400)"]
    assert (first["total"], first["model"], first["cells"][1][:2]) == (-3.0, "aligned", ("t1", -4.0))


def test_without_credit_nothing_is_coloured():
    assert heat_maps([]) == []
    assert heat_maps([answer("sft", [0.0])])[0]["cells"][0][2].endswith("0.000)")


def test_one_token_with_much_credit_leaves_the_others_their_colour():
    (shown,) = heat_maps([answer("aligned", [1.0] * 39 + [-50.0])])
    assert [cell[2] for cell in shown["cells"]][-2:] == [f"rgba({RAISED}, 0.800)", f"rgba({LOWERED}, 0.800)"]


def test_answers_to_one_prompt_follow_one_another():
    found = heat_maps([answer(model, [1.0], prompt) for model in ("aligned", "sft") for prompt in ("b", "a")])
    assert [(each["prompt"][0]["content"], each["model"]) for each in found] == [
        ("b", "aligned"),
        ("b", "sft"),
        ("a", "aligned"),
        ("a", "sft"),
    ]


@given(st.floats(-9, 9))
def test_a_colour_is_never_more_opaque_than_text_can_be_read_on(share):
    assert 0 <= float(colour(share).rpartition(",")[2].strip(" )")) <= MOST_OPAQUE
