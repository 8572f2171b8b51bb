"""Options of methods that sample, in a recipe: nested names are bound, nested paths made absolute, smoke makes them small."""

import pytest

from alignflow.data.binding import configs_in, parsed_options
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.loading import parse_recipe
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError

DATA = {"demonstrations": [{"path": "rows.jsonl"}]}


def recipe(base, **align):
    return parse_recipe({"data": DATA, "align": {"method": "ppo", **align}}, base, "test")


def test_a_rubric_inside_a_reward_is_found_from_the_recipes_directory(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\nprinciples: [{name: a, kind: ends_properly}]\n")
    judge = {"name": "rubric", "options": {"constitution": "mine.yaml"}}
    found = recipe(
        tmp_path, options={"rewards": [{"name": "judge", "options": {"judge": judge}}], "heldout_judge": judge}
    ).align
    options = parsed_options(found, "align")
    rubrics = [part for _, part in configs_in(found, "align") if isinstance(part, JudgeConfig)]
    assert [part.options["constitution"] for part in rubrics] == [str(tmp_path / "mine.yaml")] * 2
    assert set(found.options) == {"rewards", "heldout_judge"}, "what the recipe leaves out stays out"
    assert options.heldout_judge in rubrics


@pytest.mark.parametrize(
    ("field", "value"), [("sft_coefficient", 0.1), ("eval_steps", 5), ("metric_for_best_model", "eval_rewards/margins")]
)
def test_a_field_that_the_method_leaves_unread_is_refused(tmp_path, field, value):
    with pytest.raises(RecipeError, match="no use for it") as error:
        recipe(tmp_path, **{field: value})
    assert error.value.where == f"align.{field}"


def test_every_place_of_a_config_is_named():
    rewards = [{"name": "judge", "options": {"judge": {"name": "rubric"}}}]
    places = [where for where, _ in configs_in(AlignConfig(method="ppo", options={"rewards": rewards}), "align")]
    assert "align.options.rewards.0.options.judge.options" in places and "align.options.alarms" in places


def test_smoke_makes_answers_few_and_short(tmp_path):
    options = {"response_length": 96, "num_mini_batches": 16, "num_generations": 8, "kl_coef": 0.3}
    small = smoke_recipe(recipe(tmp_path, options=options, batch_size=128)).align
    parsed = parsed_options(small, "align")
    assert (small.max_steps, small.batch_size) == (4, 8)
    assert (parsed.response_length, parsed.num_mini_batches, parsed.num_generations, parsed.kl_coef) == (24, 2, 2, 0.3)
