"""The number that a worked solution ends with, compared by value. Values are exact: 0.1 + 0.2 is 0.3, and 3/4 is 0.75."""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

from alignflow.data.configs.verifiers import NumericAnswerOptions
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import NO_REFERENCE, UNPARSED, Outcome, reference_of, unchecked, verdict
from alignflow.models.rewards.verifiers.marks import HASHES, shown_answers

LONGEST = 60
"""Characters of the longest run that is read as a number, to bound exact arithmetic on a model's text."""
LARGEST_EXPONENT = 100

_CALCULATION = re.compile(r"<<[^<>\n]*>>")  # GSM8K's notes for a calculator
_FRACTION = re.compile(r"\\[dtc]?frac[^\S\n]*\{([^{}\n]*)\}[^\S\n]*\{([^{}\n]*)\}")
_PLAIN = re.compile(r"[^\S\n]*(-?[\d.,]+)[^\S\n]*")
_DASHES = str.maketrans(
    {
        "\u2212": "-",
        "\u2010": "-",
        "\u2011": "-",
        "\u2013": "-",
        "\uff0d": "-",
        "\u00a0": " ",
        "\u202f": " ",
        "\uff05": "%",
    }
)
_DIGITS = r"(?:\d+(?:,\d+)*(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?<![\w.])                                        # the 2 of x2 or of 1.2.3 is no number of its own
    (?P<sign>(?<![\d)\]%][ ])(?<![\d)\]%])[-+])?           # a minus behind a number subtracts
    (?:(?P<currency>[$\u20ac\u00a3\u00a5])[ ]?(?P<inner>-)?)?
    (?P<number>{_DIGITS})(?![.,]?\d)
    (?P<exponent>[eE][-+]?\d+(?!\w))?
    (?:[ ](?P<over>\d+/\d+)(?![\d/.]))?                   # 1 3/4
    (?:[ ]?/[ ]?(?P<below>-)?(?P<divisor>{_DIGITS})(?![.,]?\d))?
    (?P<percent>[ ]?(?:%|percent\b))?""",
    re.VERBOSE,
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


class NumericAnswer:
    """1 if answer and reference have the same value."""

    def __init__(self, options: NumericAnswerOptions):
        self._options = options

    def check(self, episode: Episode) -> Outcome:
        """Compare; a reference that is a worked solution is read in the same way."""
        if not (reference := reference_of(episode)):
            return unchecked(NO_REFERENCE)
        wanted = final_values(reference)
        if not wanted:
            return unchecked(
                f"the row's reference has no number that can be read: {' '.join(reference.split())[-60:]!r}"
            )
        found = final_values(episode.text, self._options.answer_from)
        if not found:
            return UNPARSED
        allowed = Fraction(self._options.tolerance)
        return verdict(any(abs(one - other) <= allowed for one in found for other in wanted))


def final_values(text: str, answer_from: str = "marked_or_last") -> set[Fraction]:
    """The possible values of a text's answer: two for a percentage (50% is 50 and 1/2), none if there is no number.

    Args:
        text: An answer with or without its working.
        answer_from: As in NumericAnswerOptions.
    """
    text = _plain(text)
    if answer_from == "whole":
        found = _NUMBER.fullmatch(text.strip().strip("*_").rstrip(".").strip())
        return _values(found) if found else set()
    if answer_from != "last" and (found := _marked(text)):
        return _values(found)
    return set() if answer_from == "marked" else _last(text)


def _marked(text: str) -> re.Match[str] | None:
    """The number of the last mark that has one: after its last equals sign if there is one, otherwise its first number.

    `#### Step 2` is a heading: after these signs the number must come first.
    """
    for mark, shown in shown_answers(text):
        if mark == HASHES:
            found = _NUMBER.match(shown.lstrip())
        else:
            found = _NUMBER.search(shown.rpartition("=")[2]) or _NUMBER.search(shown)
        if found:
            return found
    return None


def _last(text: str) -> set[Fraction]:
    last = deque(_NUMBER.finditer(text), maxlen=1)
    return _values(last[0]) if last else set()


def _plain(text: str) -> str:
    """A text without LaTeX around its numbers and without notes for a calculator."""
    text = _CALCULATION.sub("", text).translate(_DASHES)
    text = _FRACTION.sub(_written_out, text)
    for written, plain in (
        ("{,}", ","),
        (r"\,", ""),
        (r"\!", ""),
        (r"\$", "$"),
        (r"\%", "%"),
        ("\\text", " "),
        ("**", ""),
    ):
        text = text.replace(written, plain)
    return text


def _written_out(found: re.Match[str]) -> str:
    parts = [_PLAIN.fullmatch(part) for part in found.groups()]
    behind_a_number = found.start() > 0 and found.string[found.start() - 1].isdigit()  # 1\\frac{1}{2} is 1 1/2
    return " " * behind_a_number + "/".join(part[1] for part in parts if part) if all(parts) else found[0]


def _values(found: re.Match[str]) -> set[Fraction]:
    """The values of a number; none for one that is too long, has misplaced commas, or divides by zero."""
    if len(found[0]) > LONGEST:
        return set()
    value, divisor = _value(found["number"]), _value(found["divisor"] or "1")
    if value is None or divisor is None or not divisor:
        return set()
    if found["exponent"]:
        exponent = int(found["exponent"][1:])
        if abs(exponent) > LARGEST_EXPONENT:
            return set()
        value *= Fraction(10) ** exponent
    if found["over"]:
        above, below = map(int, found["over"].split("/"))
        if not below:
            return set()
        value += Fraction(above, below)
    value /= divisor
    minuses = (found["sign"] == "-") + bool(found["inner"]) + bool(found["below"])
    value = -value if minuses % 2 else value
    return {value, value / 100} if found["percent"] else {value}


def _value(digits: str) -> Fraction | None:
    if "," in digits and not _GROUPED.fullmatch(digits):
        return None  # 1,5 is 1.5 to some and two numbers to others
    return Fraction(digits.replace(",", ""))
