"""Instructions that an answer can be checked for."""

from alignflow.models.evaluators.base import Answer
from alignflow.models.evaluators.instructions import count


def test_instructions_are_counted_per_prompt_and_per_instruction():
    two = [{"id": "punctuation:no_comma", "kwargs": {}}, {"id": "change_case:english_lowercase", "kwargs": {}}]
    found = count(
        [
            (Answer("small", True, 1), two),
            (Answer("Small", True, 1), two),
            (Answer("x", True, 1), [{"id": "no:such", "kwargs": {}}]),
        ],
        0.95,
    )
    assert (
        found["prompt_strict"]["rate"] == 0.5 and found["instruction_strict"]["rate"] == 0.75 and found["unknown"] == 1
    )
