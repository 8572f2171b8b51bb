"""A run is called after its recipe, its flow and what it changes."""

import pytest

from alignflow.flows.run_names import is_generated, run_title


@pytest.mark.parametrize(
    ("flow", "settings", "name"),
    [
        ("pipeline", [], "quickstart pipeline"),
        ("align", [("align.options.beta", 0.3)], "quickstart align beta=0.3"),
        ("align", [("align.options", {"beta": 0.3})], "quickstart align beta=0.3"),
        ("align", [("data.max_length", 64)], "quickstart align data.max_length=64"),
        ("pipeline", [("align.options.beta", 0.3)], "quickstart pipeline align.beta=0.3"),
        ("pipeline", [("report", None)], "quickstart pipeline report=null"),
        ("pipeline", [("seed", 1), ("seed", 2)], "quickstart pipeline seed=2"),
        ("pipeline", [(name, 1) for name in "abcde"], "quickstart pipeline a=1 b=1 c=1 and 2 more"),
        (
            "pipeline",
            [("gates", [{"stage": "reward", "metric": "eval_accuracy"}])],
            "quickstart pipeline gates=[{metric: eval_accura...",
        ),
    ],
)
def test_a_name_says_what_differs_from_the_recipe(flow, settings, name):
    assert run_title("quickstart", flow, settings) == name


@pytest.mark.parametrize(
    ("name", "generated"), [("shy-seal", True), ("my run", False), ("beta-0.3", False), ("Shy-Seal", True)]
)
def test_two_words_with_a_dash_are_taken_for_a_name_that_prefect_made_up(name, generated):
    assert is_generated(name) is generated
