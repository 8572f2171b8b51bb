"""Every verifiable instruction: an answer that keeps it and one that does not."""

import pytest

from alignflow.models.evaluators.checks import CHECKS, kept, loose_forms

CASES = {
    "keywords:existence": ({"keywords": ["cat", "dog"]}, "A cat and a Dog.", "A cat and a dogma."),
    "keywords:forbidden_words": ({"forbidden_words": ["bad"]}, "A badge.", "Too bad."),
    "keywords:frequency": (
        {"keyword": "tea", "frequency": 2, "relation": "at least"},
        "Tea and tea.",
        "Tea and teapot.",
    ),
    "keywords:letter_frequency": ({"letter": "a", "let_frequency": 3, "let_relation": "less than"}, "aA", "banana"),
    "length_constraints:number_words": ({"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    "length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "less than"},
        "Only one here.",
        "One. Two.",
    ),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "one\n***\ntwo", "one"),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "One.\n\nThen two.",
        "One.\n\nNow two.",
    ),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n* b", "* a"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 1}, "so *very* good", "so very good"),
    "detectable_format:multiple_sections": (
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    "detectable_format:title": ({}, "<<Title>>\ntext", "Title\ntext"),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:constrained_response": ({}, "My answer is yes.", "Yes."),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[name] at [place]", "[name]"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "Bye. P.S. one more", "Bye."),
    "change_case:english_lowercase": ({}, "all small", "Not small"),
    "change_case:english_capital": ({}, "ALL LARGE", "NOT large"),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "at least"},
        "SO LOUD now",
        "SO quiet",
    ),
    "startend:end_checker": ({"end_phrase": "The end."}, "So it was. the end.", "The end. Or not"),
    "startend:quotation": ({}, '"quoted"', 'not "quoted"'),
    "punctuation:no_comma": ({}, "one and two", "one, two"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say hi"}, "Say hi\nHi!", "Hi!"),
    "combination:two_responses": ({}, "one\n******\ntwo", "one\n******\none"),
}


def test_every_check_has_a_case():
    assert CASES.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", list(CHECKS))
def test_a_check_tells_keeping_from_not_keeping(name):
    arguments, good, bad = CASES[name]
    assert kept(good, {"id": name, "kwargs": arguments}) is True
    assert kept(bad, {"id": name, "kwargs": arguments}) is False


@pytest.mark.parametrize("name", list(CHECKS))
def test_an_empty_answer_keeps_nothing(name):
    assert kept("  ", {"id": name, "kwargs": CASES[name][0]}) is False


def test_an_unknown_instruction_or_a_lacking_argument_has_no_verdict():
    assert kept("text", {"id": "no:such", "kwargs": {}}) is None
    assert kept("text", {"id": "keywords:existence", "kwargs": {}}) is None


def test_the_loose_reading_forgives_a_first_line():
    assert "hello" in loose_forms("Sure!\nhello")


@pytest.mark.parametrize(
    ("name", "arguments", "text", "verdict"),
    [
        ("detectable_format:number_highlighted_sections", {"num_highlights": 3}, "**a** b **c**", False),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**a** b **c**", True),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "* *", False),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n\ntwo", False),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\none\n\none\n***\ntwo\n***", True),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\n***\ntwo", False),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 3, "nth_paragraph": 3, "first_word": "then"},
            "One.\n\n***\n\nThen two.",
            True,
        ),
        ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "- \n\ntext", False),
        ("combination:two_responses", {}, "a\n******\na\n******\nb", False),
        ("combination:two_responses", {}, "******\na\n******\nb", True),
        ("change_case:english_lowercase", {}, "123", False),
        ("change_case:english_capital", {}, "123", False),
        ("change_case:capital_word_frequency", {"capital_frequency": 3}, "I AM OK", True),
    ],
)
def test_counts_are_those_of_the_authors_code(name, arguments, text, verdict):
    assert kept(text, {"id": name, "kwargs": arguments}) is verdict
