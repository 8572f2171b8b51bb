"""The text of a new recipe: short, or with every other field as a comment that can be taken away."""

import re

import pytest
import yaml

from alignflow.cli.job_recipes import JobRecipe, job_recipe
from alignflow.cli.recipe_text import recipe_text
from alignflow.data.configs.recipe import Recipe


@pytest.mark.parametrize(("task", "kind"), [("rlaif", "prompts"), ("dpo", "preferences"), ("ppo", "demonstrations")])
def test_every_line_of_a_full_recipe_can_be_uncommented(task, kind):
    made = job_recipe(task, "name", "model", {kind: ["data.jsonl"]})
    made.content["reward"] = made.content.get("reward") or {"learning_rate": 1e-5}  # a null has no fields beside it
    text = recipe_text(made, full=True)
    lines = [
        re.sub(r"^( *)# (?=[ -]*\{?[a-z_]+:)", r"\1", line) for line in text.splitlines() if "more sources" not in line
    ]
    everything = "\n".join(lines[2:]).partition("replace:")[0] + "\n".join(lines).partition("reward_model\n")[2]
    uncommented = Recipe.model_validate(yaml.safe_load(everything))
    assert uncommented.align.method == yaml.safe_load(text)["align"]["method"]
    assert len(uncommented.gates) == text.count("{stage:")


def test_the_short_recipe_has_what_the_job_sets_and_nothing_else():
    made = JobRecipe(
        "A job.", {"name": "a", "model": {"path": "m"}, "data": {"prompts": [{"path": "p"}]}, "align": None}
    )
    made.notes["align"] = "why"
    assert recipe_text(made, full=False).splitlines()[2:] == [
        "name: a",
        "model:",
        "  path: m",
        "data:",
        "  prompts:",
        "    - path: p",
        "align: null  # why",
    ]


def test_a_path_that_yaml_would_misread_is_quoted():
    made = job_recipe("sft", "name", "1e3", {"demonstrations": ["a: b #c.jsonl", "true"]})
    content = yaml.safe_load(recipe_text(made, full=False))
    assert content["model"]["path"] == "1e3"
    assert [source["path"] for source in content["data"]["demonstrations"]] == ["a: b #c.jsonl", "true"]
