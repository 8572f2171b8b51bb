"""The number that a solution ends with: what people and models write, and what it is worth."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.verifiers import NumericAnswerOptions
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.numeric import NumericAnswer, final_values

READ = {
    "-3": "-3",
    "\u22123": "-3",
    "1,234.50": "1234.5",
    "3/4": "3/4",
    "1 3/4": "7/4",
    ".5": "1/2",
    "1e3": "1000",
    "$18": "18",
    "-$18": "-18",
    "$-18": "-18",
    "18 dollars": "18",
    "18.": "18",
    "18.00!": "18",
    r"\boxed{18}": "18",
    r"The final answer is $\boxed{ 12 \text{ apples}}$.": "12",
    r"\boxed{\$1{,}234}": "1234",
    r"-\frac{3}{4}": "-3/4",
    r"1\frac{1}{2}": "3/2",
    r"\boxed{\frac{1}{-2}}": "-1/2",
    r"\frac{-1}{-2}": "1/2",
    "The answer is \u20133": "-3",
    "1990\u20131995": "1995",
    "5 apples and 6 pears": "6",
    "10 - 3 = 7": "7",
    "5-3": "3",
    "- 18 apples": "18",
    "The answer is 42, and 7 are left": "42",
    "The answer is 3 + 4 = 7.": "7",
    "Answer:\n\n**42** apples": "42",
    "A: 26": "26",
    "#### 72\nWell done, 3 points!": "72",
    "The answer is 5. No: the answer is 6. I am 99 percent sure": "6",
    "#### Step 2\nso it is 9": "9",
    "<<48/2=24>>24 clips": "24",
    "x2 + 7": "7",
}
UNREAD = ["", "none", "x2", "1,5", "1.2.3", "3/0", "1e999999999", "9" * 80, r"\boxed{", "#### 1,5", "eighteen"]


@pytest.mark.parametrize("text", READ)
def test_a_number_is_read_as_it_is_meant(text):
    assert final_values(text) == {Fraction(READ[text])}


@pytest.mark.parametrize("text", UNREAD)
def test_what_cannot_be_read_for_sure_is_no_number(text):
    assert final_values(text) == set()


@pytest.mark.parametrize(
    ("answer_from", "text", "value"),
    [
        ("marked", "#### 5, of 6", "5"),
        ("marked", "it is 5", None),
        ("last", "#### 5, of 6", "6"),
        ("whole", " 5. ", "5"),
        ("whole", "5 apples", None),
    ],
)
def test_where_the_answer_is_looked_for(answer_from, text, value):
    assert final_values(text, answer_from) == (set() if value is None else {Fraction(value)})


def outcome(text, reference, **options):
    return NumericAnswer(NumericAnswerOptions(**options)).check(
        Episode({"id": "q", "reference": reference}, text, True)
    )


@pytest.mark.parametrize(
    ("text", "reference", "score", "parsed"),
    [
        ("so 72 clips", "She sold 48+24 = <<48+24=72>>72\n#### 72", 1.0, True),
        ("0.75", "3/4", 1.0, True),
        ("50%", "50", 1.0, True),
        ("50%", "0.5", 1.0, True),
        ("50%", "5", 0.0, True),
        ("1234", "1,234.0", 1.0, True),
        ("7", "8", 0.0, True),
        ("no idea", "8", 0.0, False),
    ],
)
def test_values_are_compared_and_an_unreadable_answer_is_wrong(text, reference, score, parsed):
    found = outcome(text, reference)
    assert (found.score, found.parsed, found.reason) == (score, parsed, "")


@pytest.mark.parametrize("reference", [None, "", "many"])
def test_without_a_reference_that_can_be_read_there_is_no_score(reference):
    found = outcome("7", reference)
    assert found.score is None and "reference" in found.reason


def test_a_tolerance_is_a_largest_difference():
    assert outcome("0.33", "1/3").score == 0
    assert outcome("0.33", "1/3", tolerance=0.01).score == 1


@given(
    st.decimals(min_value=-(10**12), max_value=10**12, places=3),
    st.sampled_from(["{}", "{:,}", "so it is {:,}.", "#### {}", "\\boxed{{{}}}"]),
)
def test_every_decimal_is_read_back_from_every_way_to_write_it(value, way):
    assert final_values(way.format(value)) == {Fraction(value)}


@given(st.text(alphabet="0123456789.,/-+$%eE \\boxed{}#answer is:=*\n", max_size=60))
def test_no_text_raises(text):
    for answer_from in ("marked_or_last", "whole"):
        assert len(final_values(text, answer_from)) <= 2


@pytest.mark.parametrize("part", ["\\boxed{", "answer is ", "1,", "- ", "1 ", "1/", "####", "9", "\\frac{1}{"])
def test_a_long_text_takes_time_linear_in_its_length(part):
    start = time.process_time()
    final_values(part * (100_000 // len(part)))
    assert time.process_time() - start < 3
