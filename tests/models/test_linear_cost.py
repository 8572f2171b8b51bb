"""What reads answers costs time in proportion to their length: an answer that was written to be slow is only as slow as it is long.

Costs are compared at two sizes, so that no machine is too slow for these tests: eight times the text may cost eight times as
much and some noise, while a square would be 64 times.
"""

import time

import pytest

from alignflow.data.records import user
from alignflow.models.evaluators.checks import CHECKS
from alignflow.models.judges.base import Candidate
from alignflow.models.judges.marks import Marks
from alignflow.models.judges.principles import PRINCIPLES

SMALL, TIMES, MOST = 2_000, 8, 28
FLOOR_S = 3e-4  # what is faster than this at the small size is noise

UNITS = [
    ".",
    ". ",
    ".x",
    '."',
    "…)",
    "[your ",
    "[insert",
    "<your ",
    "{{",
    "{{}",
    "TODO",
    "[",
    "[a",
    "]",
    "(",
    "*",
    "* ",
    "- ",
    "-\n",
    "***",
    "***\n",
    "\n",
    "\n\n",
    "\n ",
    " ",
    "\t",
    "```",
    "```json\n",
    "<<",
    "<<a",
    ">>",
    '"',
    "'",
    "a",
    "a-",
    "a'",
    "a b ",
    "Ab",
    "1",
    "1. ",
    "Section 1\n",
    "Section\n",
    "not ",
    "you ",
    "kill ",
    "dog ",
    "<|",
    "<|a",
    "[[A",
    "ignore all ",
    "answer ",
    "the other ",
    "é",
    "。",
    "\u200b",
    "****** ",
]
OPTIONS = {
    "forbidden_content": {"words": ["a", "dog"]},
    "required_words": {"words": ["a b"]},
    "pattern": {"pattern": "a"},
}
ARGUMENTS = {
    "keywords": ["a", "dog"],
    "forbidden_words": ["zz"],
    "keyword": "a",
    "frequency": 3,
    "letter": "a",
    "let_frequency": 3,
    "num_words": 3,
    "num_sentences": 3,
    "num_paragraphs": 1,
    "nth_paragraph": 1,
    "first_word": "a",
    "num_bullets": 3,
    "num_highlights": 3,
    "num_sections": 3,
    "section_spliter": "Section",
    "num_placeholders": 3,
    "postscript_marker": "P.S.",
    "capital_frequency": 3,
    "end_phrase": "a",
    "prompt_to_repeat": "a",
}


def seconds(read, text):
    """The faster of two readings, in seconds of this process."""
    found = []
    for _ in range(2):
        start = time.process_time()
        read(text)
        found.append(time.process_time() - start)
    return min(found)


def slow_units(read):
    """Units whose repetition costs more than in proportion; each is measured again before it is believed."""
    return [unit for unit in UNITS if all(growth(read, unit) > MOST for _ in range(2))]


def growth(read, unit):
    texts = [f"x {unit * (size // len(unit))} x" for size in (SMALL, SMALL * TIMES)]
    small, large = (seconds(read, text) for text in texts)
    return large / max(small, FLOOR_S)


@pytest.mark.parametrize("kind", sorted(PRINCIPLES))
def test_a_principle_costs_in_proportion_to_the_answer(kind):
    row = PRINCIPLES[kind]
    options = row.options.model_validate(OPTIONS.get(kind, {}))
    assert slow_units(lambda text: row.score(Candidate(user("How is my dog?"), text), options)) == []


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_check_costs_in_proportion_to_the_answer(name):
    assert slow_units(lambda text: CHECKS[name](text, ARGUMENTS)) == []


def test_looking_for_marks_costs_in_proportion_to_the_answer():
    assert slow_units(Marks(("A", "B"), ("</s>",)).of) == []
