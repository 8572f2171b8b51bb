"""Where a solution shows its answer."""

import pytest

from alignflow.models.rewards.verifiers.marks import shown_answers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("#### 42 apples\nBye", ["42 apples"]),
        ("The answer is blue.", ["blue."]),
        ("Final answer: B\nAnswer = C", ["C", "B"]),
        ("so \\boxed{a{b}c} it is", ["a{b}c"]),
        ("\\boxed{open", []),
        ("Answer:\n\n  yes\nno", ["yes"]),
        ("A: 3\nAA: 4", ["3"]),
        ("Nothing here answers it", []),
    ],
)
def test_marks_show_the_last_first(text, shown):
    assert [each for _, each in shown_answers(text)] == shown
