"""Verifiable instructions by their IFEval names (Zhou et al. 2023, arXiv 2311.07911): checks whether an answer keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[str, Mapping[str, Any]], bool]


def relation(count: int, arguments: Mapping[str, Any], limit: str) -> bool:
    """Whether a count is `at least`, `at most`, `less than` or `more than` the limit that the arguments name."""
    wanted, word = int(arguments[limit]), str(arguments.get("relation", "at least"))
    return RELATIONS[word](count, wanted)


RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "at least": lambda count, wanted: count >= wanted,
    "at most": lambda count, wanted: count <= wanted,
    "less than": lambda count, wanted: count < wanted,
    "more than": lambda count, wanted: count > wanted,
}


def occurrences(text: str, word: str) -> int:
    """How often a word or phrase is in a text, whole and in any case."""
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, flags=re.IGNORECASE))


def sentences(text: str) -> int:
    """Number of sentences: runs that end with . ! or ?, and the rest after the last."""
    return len([part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if re.search(r"\w", part)])


def paragraphs(text: str) -> list[str]:
    """Parts between blank lines."""
    parts: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            parts[-1].append(line)
        else:
            parts.append([])
    return ["\n".join(part) for part in parts if part]


def divided(text: str, rule: str) -> list[str]:
    """The parts between rules such as `***`; none if a part between two rules is empty, as IFEval counts."""
    parts = [part.strip() for part in text.split(rule)]
    within = parts[1:-1]
    return [part for part in parts if part] if all(within) else []


def highlights(text: str) -> int:
    """Number of texts between asterisks, single or double, each on one line; the text between two bold texts does not count."""
    found = [*re.findall(r"\*([^\n*]*)\*", text), *re.findall(r"\*\*([^\n*]*)\*\*", text)]
    return sum(bool(part.strip()) for part in found)


def placeholders(text: str) -> int:
    """Number of texts in square brackets, each on one line and not empty."""
    # Search for the closing bracket first: a search from each `[` would scan the rest of its line again and again.
    ends = [part for line in text.split("\n") for part in line.split("]")[:-1]]
    return sum(0 <= part.find("[") < len(part) - 1 for part in ends)


def _is_json(text: str) -> bool:
    stripped = text.strip()
    if stripped.startswith("```"):
        stripped = stripped[3:]
        stripped = stripped[4 if stripped[:4].lower() == "json" else 0 :].lstrip()
    try:
        json.loads(stripped.removesuffix("```").rstrip())
    except (ValueError, RecursionError):
        return False
    return True


def _starts_paragraph(text: str, arguments: Mapping[str, Any]) -> bool:
    parts = paragraphs(text)
    place = int(arguments["nth_paragraph"]) - 1
    if len(parts) != int(arguments["num_paragraphs"]) or not 0 <= place < len(parts):
        return False
    first = re.findall(r"[\w']+", parts[place])
    return bool(first) and first[0].lower() == str(arguments["first_word"]).lower()


def _capital_words(text: str) -> int:
    return sum(word.isupper() for word in re.findall(r"[A-Za-z']+", text))


CHECKS: Mapping[str, Check] = {
    "keywords:existence": lambda text, given: all(occurrences(text, word) for word in given["keywords"]),
    "keywords:forbidden_words": lambda text, given: (
        not any(occurrences(text, word) for word in given["forbidden_words"])
    ),
    "keywords:frequency": lambda text, given: relation(occurrences(text, given["keyword"]), given, "frequency"),
    "keywords:letter_frequency": lambda text, given: RELATIONS[given.get("let_relation", "at least")](
        text.lower().count(str(given["letter"]).lower()), int(given["let_frequency"])
    ),
    "length_constraints:number_words": lambda text, given: relation(len(re.findall(r"\w+", text)), given, "num_words"),
    "length_constraints:number_sentences": lambda text, given: relation(sentences(text), given, "num_sentences"),
    "length_constraints:number_paragraphs": lambda text, given: (
        len(divided(text, "***")) == int(given["num_paragraphs"])
    ),
    "length_constraints:nth_paragraph_first_word": _starts_paragraph,
    "detectable_format:number_bullet_lists": lambda text, given: (
        len(re.findall(r"^[^\S\n]*[*-][^\S\n]+\S", text, re.M)) == int(given["num_bullets"])
    ),
    "detectable_format:number_highlighted_sections": lambda text, given: (
        highlights(text) >= int(given["num_highlights"])
    ),
    "detectable_format:multiple_sections": lambda text, given: (
        len(re.findall(rf"^[^\S\n]*{re.escape(given['section_spliter'])}\s*\d+", text, re.M | re.I))
        >= int(given["num_sections"])
    ),
    "detectable_format:title": lambda text, given: bool(re.search(r"<<[^\n<>]+>>", text)),
    "detectable_format:json_format": lambda text, given: _is_json(text),
    "detectable_format:constrained_response": lambda text, given: any(
        answer in text for answer in ("My answer is yes.", "My answer is no.", "My answer is maybe.")
    ),
    "detectable_content:number_placeholders": lambda text, given: placeholders(text) >= int(given["num_placeholders"]),
    "detectable_content:postscript": lambda text, given: str(given["postscript_marker"]).lower() in text.lower(),
    "change_case:english_lowercase": lambda text, given: text.islower(),
    "change_case:english_capital": lambda text, given: text.isupper(),
    "change_case:capital_word_frequency": lambda text, given: RELATIONS[given.get("capital_relation", "at least")](
        _capital_words(text), int(given["capital_frequency"])
    ),
    "startend:end_checker": lambda text, given: (
        text.strip().strip('"').lower().endswith(str(given["end_phrase"]).strip().lower())
    ),
    "startend:quotation": lambda text, given: len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"',
    "punctuation:no_comma": lambda text, given: "," not in text,
    "combination:repeat_prompt": lambda text, given: (
        text.strip().lower().startswith(str(given["prompt_to_repeat"]).strip().lower())
    ),
    "combination:two_responses": lambda text, given: (
        len(divided(text, "******")) == len(set(divided(text, "******"))) == 2
    ),
}
"""IFEval's instruction ids -> whether an answer keeps them. Its language check is missing, since it needs a language detector."""


def kept(text: str, instruction: Mapping[str, Any]) -> bool | None:
    """Whether an answer keeps an instruction `{id, kwargs}`; an empty answer keeps none; None for an unknown id or bad arguments."""
    check = CHECKS.get(str(instruction.get("id")))
    if check is None:
        return None
    try:
        return bool(text.strip()) and check(text, instruction.get("kwargs") or {})
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None


def loose_forms(text: str) -> list[str]:
    """The answer, and the answer without its first line, its last line, both, and without asterisks (IFEval's loose reading)."""
    lines = text.split("\n")
    forms = [text, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1])]
    return [variant.strip() for form in forms for variant in (form, form.replace("*", ""))]
