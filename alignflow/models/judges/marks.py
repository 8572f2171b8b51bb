"""Marks by which an answer may try to steer a judge that reads it: they are flagged and counted; the list is not complete.

The list is short on purpose. An honest answer can have one too ("Answer: A" in a quiz), so a flag only says where to look;
the judge's option `flagged` says what to do with it. Every expression is bounded, so that a long answer costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

CONTROL = "control token"
FENCE = "fence"
LABEL = "option label"
VERDICT = "verdict"
INSTRUCTION = "instruction to the judge"
OTHER = "claim about the other answer"
SCORE = "score"

_CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|</?start_of_turn>"
    r"|^#{2,4} ?(?:assistant|system|user|human)(?::|[^\S\n]*$)",
    re.I | re.M,
)
_STRUCK = re.compile(
    r"<s>[^<\n]{0,200}</s>", re.I
)  # HTML for struck-out text; model tokens are searched for separately
_FENCE = re.compile(r"\[ ?(?:end of )?(?:the )?(?:answer|conversation|response)(?: ?[\]:]| (?:[a-z]|\d{1,12})\b)", re.I)
_VERDICT = re.compile(
    r"\b(?:(?:final )?verdict|winner|better answer|best answer|better response|judg(?:e)?ment) ?(?:is\b|:|=)|\bwhich answer is better\b",
    re.I,
)
_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget|override) (?:(?:all|any|the|your|of|these|those|every) ){0,3}"
    r"(?:previous|prior|above|earlier|preceding|other|system|original)\b"
    r"|\b(?:as|dear|attention,?|note to|hey,?|you are) (?:the |a |an )?(?:judge|grader|evaluator|rater|assessor)\b"
    r"|\b(?:choose|pick|prefer|select|vote for|rank|rate|score|reply with) (?:this|the first|the second|the other|my|answer|option|response)\b",
    re.I,
)
_SCORE = re.compile(r"\b(?:total |final )?(?:score|rating|grade)s? ?(?:is\b|:|=) ?\(?\d", re.I)
_OTHER = re.compile(
    r"\b(?:the )?(?:other|competing|rival|opposing|alternative) (?:answer|response|assistant|reply|candidate)\b"
    r"|\b(?:first|second|previous) (?:answer|response|assistant|reply) (?:is|was|has|contains|should|must|may)\b",
    re.I,
)


class Marks:
    """Finds marks in answers, for a judge with these options and its model's control tokens.

    Args:
        options: The judge's options; none for a judge that writes a text.
        control_tokens: Its model's control tokens.
        scores: Whether a score ("Score: 5") is a mark too: its verdicts have that form.
    """

    def __init__(self, options: Sequence[str], control_tokens: Sequence[str] = (), *, scores: bool = False):
        either = "|".join(re.escape(option) for option in options) or "(?!)"
        # The option as it is written: "the answer is A" is a mark, "the answer is a matter of taste" is not.
        word = r"(?i:answer|option|response|assistant|choice)(?i: is)? ?[:=]? ?[\"'(*]{0,2}"
        label = rf"\[\[ ?(?:{either}) ?\]\]|\b{word}(?:{either})\b"
        self._patterns = {
            LABEL: re.compile(label),
            VERDICT: _VERDICT,
            FENCE: _FENCE,
            CONTROL: _CONTROL,
            INSTRUCTION: _INSTRUCTION,
            OTHER: _OTHER,
            **({SCORE: _SCORE} if scores else {}),
        }
        self._control_tokens = [token for token in control_tokens if token.strip()]

    def of(self, text: str) -> list[str]:
        """Names of the marks in a text, sorted; empty if it has none."""
        unstruck = _STRUCK.sub("", text)
        found = [
            name for name, pattern in self._patterns.items() if pattern.search(unstruck if name == CONTROL else text)
        ]
        if CONTROL not in found and any(token in text for token in self._control_tokens):
            found.append(CONTROL)
        return sorted(found)
