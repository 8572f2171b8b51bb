"""A recipe in small: the same steps on few rows."""

import pytest

from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.smoke import ROWS, STEPS, smoke_recipe
from alignflow.flows.graph import nodes


@pytest.mark.parametrize("name", ["tiny", "quickstart"])
def test_it_has_the_same_steps_with_few_rows_and_steps_of_training(repository, name):
    recipe = load_recipe(repository / "recipes" / f"{name}.yaml")
    small = smoke_recipe(recipe)
    assert [node.name for node in nodes(small)] == [node.name for node in nodes(recipe)]
    assert small.sft.max_steps == STEPS and small.sft.batch_size <= 8 and small.name.endswith("-smoke")
    assert all(source.max_rows <= ROWS for source in small.data.prompts) and small.sample.max_new_tokens <= 24
    assert {gate.action for gate in small.gates} <= {"warn"}


def test_a_smaller_cap_of_the_recipe_stays(repository):
    recipe = load_recipe(repository / "recipes" / "tiny.yaml", ["sample.max_new_tokens=3"])
    assert smoke_recipe(recipe).sample.max_new_tokens == 3
