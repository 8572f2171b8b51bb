"""The kinds of principles of a constitution: pure functions from an answer to a score in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import StageConfig
from alignflow.models.judges import guards
from alignflow.models.judges.base import Candidate
from alignflow.models.judges.lexicons import read_lexicon
from alignflow.models.judges.word_lists import NEGATIONS, NEGATIVE, POSITIVE, STOP_WORDS
from alignflow.models.judges.words import content_stems, question_words, stem, words_of

# The text after a match is checked outside of these expressions: a lookahead, or a search for the closing bracket, would
# scan the rest of the text again from each stop or bracket, in quadratic time.
_STOPS = re.compile(r"[.!?…。！？]+[\"'”’)\]»]*")
_CLOSERS = "\"'”’)]»*_"
_OPENED_GAPS = (
    (re.compile(r"\[(?:your|insert|name|date|company|address|city|topic|title|link|url)\b", re.IGNORECASE), "]"),
    (re.compile(r"<(?:your|insert)\b", re.IGNORECASE), ">"),
)
_GAP_WORDS = re.compile(r"\blorem ipsum\b|\bTODO\b", re.IGNORECASE)


class NoPrincipleOptions(StageConfig):
    """This kind has no options."""


class Window(StageConfig):
    """A closed interval."""

    minimum: int = Field(default=0, ge=0, description="Fewest that score 1.")
    maximum: int | None = Field(default=None, ge=1, description="Most that score 1; empty: no bound.")

    @model_validator(mode="after")
    def _is_an_interval(self) -> Window:
        if self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class LengthWindowOptions(Window):
    """How long an answer should be."""

    unit: Literal["words", "characters"] = Field(default="words", description="What is counted.")


class LanguageOptions(StageConfig):
    """Which language an answer should be in."""

    code: Literal["en", "de", "fr", "es"] = Field(default="en", description="ISO 639-1.")
    share: float = Field(default=0.25, gt=0, le=1, description="Share of stop words from which on the score is full.")


class RepetitionOptions(StageConfig):
    """Which repetition counts."""

    n: int = Field(default=3, ge=1, le=10, description="Length of the word n-grams.")


class SentimentOptions(StageConfig):
    """Which tone an answer should have."""

    direction: Literal["positive", "negative"] = Field(default="positive", description="The wanted side.")
    lexicon: str | None = Field(default=None, description="File of lines word<TAB>value; empty: the built-in lists.")


class ForbiddenOptions(StageConfig):
    """Which words an answer should not have."""

    words: tuple[str, ...] = Field(default=(), description="Words or phrases.")
    lexicon: str | None = Field(default=None, description="File with one word or phrase per line.")

    @model_validator(mode="after")
    def _has_words(self) -> ForbiddenOptions:
        if not self.words and not self.lexicon:
            raise ValueError("set words or a lexicon")
        return self


class KeywordsOptions(StageConfig):
    """Which words of the question an answer should use."""

    words: tuple[str, ...] = Field(default=(), description="These instead of the content words of the last user turn.")
    share: float = Field(default=0.5, gt=0, le=1, description="Share of them from which on the score is full.")


class RequiredOptions(StageConfig):
    """Which words an answer must have."""

    words: tuple[str, ...] = Field(min_length=1, description="Words or phrases.")


class VocabularyOptions(StageConfig):
    """How varied the words should be."""

    minimum: float = Field(
        default=0.5, gt=0, le=1, description="Share of distinct words from which on the score is full."
    )


class PatternOptions(StageConfig):
    """What an answer should look like."""

    pattern: str = Field(description="Regular expression, searched in the answer.")
    wanted: bool = Field(default=True, description="false: an answer that matches scores 0.")

    @model_validator(mode="after")
    def _compiles(self) -> PatternOptions:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return self


def window_score(count: float, minimum: float, maximum: float | None) -> float:
    """1 inside the window, outside it a linear fall: to 0 at nothing below, and at twice the maximum above."""
    if count < minimum:
        return count / minimum
    if maximum is not None and count > maximum:
        return max(0.0, 2.0 - count / maximum)
    return 1.0


def length_window(candidate: Candidate, options: LengthWindowOptions) -> float:
    """Whether the answer's length lies in the window."""
    count = len(words_of(candidate.text)) if options.unit == "words" else len(candidate.text.strip())
    return window_score(count, options.minimum, options.maximum)


def language(candidate: Candidate, options: LanguageOptions) -> float:
    """Share of the language's stop words; words in more than one list count for each."""
    words = words_of(candidate.text)
    if not words:
        return 0.0
    shares = {code: sum(word in known for word in words) / len(words) for code, known in STOP_WORDS.items()}
    wanted = min(1.0, shares[options.code] / options.share)
    # Another language that fits better halves the score: German has English words in it, and the reverse.
    return wanted if shares[options.code] == max(shares.values()) else wanted / 2


def no_repetition(candidate: Candidate, options: RepetitionOptions) -> float:
    """Share of distinct word n-grams; 1 for a text too short to have two of them."""
    words = words_of(candidate.text)
    grams = [tuple(words[start : start + options.n]) for start in range(len(words) - options.n + 1)]
    return len(set(grams)) / len(grams) if grams else float(bool(words))


def ends_properly(candidate: Candidate, options: NoPrincipleOptions) -> float:
    """Half for ending by itself before the token limit, half for final punctuation; 0 for an empty answer."""
    text = candidate.text.rstrip().rstrip(_CLOSERS)
    if not text:
        return 0.0
    return 0.5 * candidate.ended + 0.5 * text.endswith((".", "!", "?", "…", "。", "！", "？"))


def sentiment(candidate: Candidate, options: SentimentOptions) -> float:
    """Balance of words of the wanted side against the other: 0.5 is neutral, one more word on a side counts less each time."""
    values = read_lexicon(options.lexicon) if options.lexicon else None
    words = words_of(candidate.text)
    balance = weight = 0.0
    for index, word in enumerate(words):
        value = values.get(word, 0.0) if values is not None else float(word in POSITIVE) - float(word in NEGATIVE)
        if value and NEGATIONS & set(words[max(0, index - 2) : index]):
            value = -value
        balance, weight = balance + value, weight + abs(value)
    # Two neutral pseudo-words keep a single word from deciding the score.
    score = 0.5 + 0.5 * balance / (weight + 2.0)
    return score if options.direction == "positive" else 1.0 - score


def forbidden_content(candidate: Candidate, options: ForbiddenOptions) -> float:
    """1 without any of the words, 1/2 with one occurrence, 1/4 with two, and so on."""
    phrases = (*options.words, *(read_lexicon(options.lexicon) if options.lexicon else ()))
    return 0.5 ** sum(_occurrences(candidate.text, phrases).values())


def required_words(candidate: Candidate, options: RequiredOptions) -> float:
    """Share of the words that the answer has."""
    found = _occurrences(candidate.text, options.words)
    return sum(count > 0 for count in found.values()) / len(found)


def instruction_keywords(candidate: Candidate, options: KeywordsOptions) -> float:
    """Share of the question's content words that the answer uses, with endings cut; 1 if the question has none."""
    wanted = {stem(word) for phrase in options.words for word in words_of(phrase)} or set(
        content_stems(question_words(candidate))
    )
    if not wanted:
        return 1.0
    said = {stem(word) for word in words_of(candidate.text)}
    return min(1.0, len(wanted & said) / len(wanted) / options.share)


def sentence_count(candidate: Candidate, options: Window) -> float:
    """Whether the number of sentences lies in the window; a last one without a full stop counts."""
    text = candidate.text.strip()
    ends = [
        match.end()
        for match in _STOPS.finditer(text)
        if text[match.end() : match.end() + 1].isspace() or match.end() == len(text)
    ]
    rest = text[ends[-1] :] if ends else text
    return window_score(len(ends) + bool(words_of(rest)), options.minimum, options.maximum)


def vocabulary(candidate: Candidate, options: VocabularyOptions) -> float:
    """Share of distinct words against the wanted minimum; 0 for an empty answer."""
    words = words_of(candidate.text)
    return min(1.0, len(set(words)) / len(words) / options.minimum) if words else 0.0


def no_placeholder(candidate: Candidate, options: NoPrincipleOptions) -> float:
    """0 for an answer that leaves a gap to fill, such as [your name] or TODO."""
    text = candidate.text
    brackets = any((gap := opener.search(text)) and closer in text[gap.end() :] for opener, closer in _OPENED_GAPS)
    braces = any((start := line.find("{{")) >= 0 and "}}" in line[start + 2 :] for line in text.split("\n"))
    return float(not (brackets or braces or _GAP_WORDS.search(text)))


def pattern(candidate: Candidate, options: PatternOptions) -> float:
    """Whether the answer matches a regular expression, or does not."""
    return float((re.search(options.pattern, candidate.text) is not None) == options.wanted)


@dataclass(frozen=True)
class Kind:
    """One kind of principle: its function, the model of its options, and one line about it."""

    score: Callable[[Candidate, Any], float]
    options: type[StageConfig]
    summary: str


PRINCIPLES: Mapping[str, Kind] = {
    "length_window": Kind(length_window, LengthWindowOptions, "Length in words or characters inside a window."),
    "language": Kind(language, LanguageOptions, "Written in a language, by its stop words."),
    "no_repetition": Kind(no_repetition, RepetitionOptions, "Share of distinct word n-grams."),
    "ends_properly": Kind(ends_properly, NoPrincipleOptions, "Ended by itself and with punctuation."),
    "sentiment": Kind(sentiment, SentimentOptions, "Words of the wanted tone against the other."),
    "forbidden_content": Kind(forbidden_content, ForbiddenOptions, "Halved by each forbidden word."),
    "instruction_keywords": Kind(instruction_keywords, KeywordsOptions, "Takes up the content words of the question."),
    "required_words": Kind(required_words, RequiredOptions, "Share of the required words."),
    "sentence_count": Kind(sentence_count, Window, "Number of sentences inside a window."),
    "vocabulary": Kind(vocabulary, VocabularyOptions, "Share of distinct words."),
    "no_placeholder": Kind(no_placeholder, NoPrincipleOptions, "Leaves no gap such as [your name]."),
    "pattern": Kind(pattern, PatternOptions, "Matches a regular expression, or does not."),
    "prose": Kind(guards.prose, guards.ProseOptions, "Sentences, not a list of words."),
    "no_stuffing": Kind(guards.no_stuffing, guards.StuffingOptions, "Content words do not come back again and again."),
    "own_words": Kind(guards.own_words, guards.CopyingOptions, "Says more than the question did."),
    "substance": Kind(
        guards.substance, guards.SubstanceOptions, "Has content words that are neither the question's nor praise."
    ),
    "measured_tone": Kind(
        guards.measured_tone, guards.ToneOptions, "Praise and other words of tone stay a small part."
    ),
    "no_harm": Kind(
        guards.no_harm,
        NoPrincipleOptions,
        "No words of violence or abuse, as far as a list of English words sees them.",
    ),
}


def _occurrences(text: str, phrases: Iterable[str]) -> dict[str, int]:
    """How often each phrase stands in the text, as whole words; phrases in the words' own form."""
    words = f" {' '.join(words_of(text))} "
    forms = {" ".join(words_of(phrase)) for phrase in phrases} - {""}
    # A shared blank between neighbours must count for both: use a lookahead instead of consuming it.
    return {form: len(re.findall(rf"(?<= ){re.escape(form)}(?= )", words)) for form in sorted(forms)}
