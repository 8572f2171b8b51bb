"""A rubric must not check labels of its own principles, in a jury either."""

import pytest

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.errors import RecipeError
from alignflow.flows.independence import check_independence

RUBRIC, READER = JudgeConfig(name="rubric"), JudgeConfig(name="rubric", options={"constitution": "reader"})
JURY = JudgeConfig(name="jury", options={"judges": [{"name": "llm"}, {"name": "rubric"}]})


@pytest.mark.parametrize(("first", "second"), [(RUBRIC, RUBRIC), (JURY, RUBRIC), (RUBRIC, JURY)])
def test_shared_principles_are_refused(first, second):
    with pytest.raises(RecipeError, match="shares"):
        check_independence(first, second, "evaluate.judges.0")


def test_others_may_check_each_other():
    check_independence(RUBRIC, READER, "here")
    check_independence(JURY, JudgeConfig(name="llm"), "here")
    check_independence(None, RUBRIC, "here")
