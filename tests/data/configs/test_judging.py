"""What measures a judge: gold labels or recorded replies."""

import pytest

from alignflow.data.configs.judging import JudgeEvalConfig

GOLD = [{"path": "gold.jsonl"}]


@pytest.mark.parametrize(
    "given", [{}, {"data": GOLD, "recorded": "r.jsonl"}, {"recorded": "r.jsonl", "judge": {"name": "llm"}}]
)
def test_one_of_both_and_no_judge_for_replies(given):
    with pytest.raises(ValueError, match=r"either data|leave judge out"):
        JudgeEvalConfig.model_validate(given)


def test_gold_alone_is_enough():
    assert JudgeEvalConfig.model_validate({"data": GOLD}).judge is None
