"""Tasks of the harness in a recipe: what means nothing is refused."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.configs.lm_eval import LmEvalConfig


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tasks": []}, "at least 1 item"),
        ({"tasks": ["a", "a"]}, "'a' is there twice"),
        ({"tasks": ["a"], "allow_code": True}, "there is none"),
    ],
)
def test_what_means_nothing_is_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        LmEvalConfig.model_validate(values)


def test_tasks_that_no_evaluator_runs_are_refused():
    tasks = LmEvalConfig(tasks=("a",))
    with pytest.raises(ValidationError, match="add lm_eval to evaluators"):
        EvaluateConfig(lm_eval=tasks)
    assert EvaluateConfig(lm_eval=tasks, evaluators=("lm_eval",)).lm_eval == tasks
