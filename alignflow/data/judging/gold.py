"""Gold labels: pairs that people compared and answers that they scored, from the shapes of the known meta-evaluation sets."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.judging.outcomes import settled
from alignflow.data.records import row_id, user
from alignflow.data.sources import comparison, trl, votes
from alignflow.data.sources.base import BrokenLine, Messages, Row, RowError, number
from alignflow.data.sources.columns import renamed
from alignflow.data.sources.conversations import prompt_of
from alignflow.data.sources.reading import read_rows

SIDES = (
    ("response_a", "response_b"),
    ("output_1", "output_2"),
    ("response1", "response2"),
    ("conversation_a", "conversation_b"),
)
GOLD = ("human_preference", "winner", "preference", "label", "gold")
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
MOST_ALL_PAIRS = 4
"""Up to so many answers of a prompt all pairs are made; of more, neighbours in a fixed shuffled ring."""


@dataclass(frozen=True)
class GoldPair:
    """Two answers to one prompt that people compared.

    Attributes:
        row: Id of the prompt.
        prompt: The conversation before the answers.
        answers: Their texts.
        gold: 1.0 where people prefer the first, 0.0 the second, 0.5 a tie.
        families: Who wrote them; empty where the row does not say.
        scores: What people gave each of them, where the set has scores.
    """

    row: str
    prompt: Sequence[Mapping[str, str]]
    answers: tuple[str, str]
    gold: float
    families: tuple[str, str] = ("", "")
    scores: tuple[float | None, float | None] = (None, None)


@dataclass
class GoldSet:
    """What a source has: pairs, answers with scores, and what could not be read.

    Attributes:
        pairs: Pairs that were compared, or that scores put in an order.
        answers: Row, prompt, answer and score of each answer that has one.
        read: Rows that were read.
        dropped: Reason -> rows that are left out.
        numbers: Labels of pairs that are written as numbers.
    """

    pairs: list[GoldPair] = field(default_factory=list)
    answers: list[tuple[str, Sequence[Mapping[str, str]], str, float]] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    numbers: set[str] = field(default_factory=set)


def read_gold(sources: Sequence[SourceConfig], max_rows: int | None = None) -> GoldSet:
    """The gold of some sources.

    Args:
        sources: Where it is.
        max_rows: At most so many prompts, chosen by hash, of each source.

    Raises:
        DataError: a source has no row with a gold label that can be understood.
    """
    found = GoldSet()
    for source in sources:
        one = _of_source(source)
        if not one.pairs and not one.answers:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(one.dropped.items()))
            raise DataError(
                f"none of {one.read} rows has a gold label that is understood ({reasons})",
                where=source.path,
                do="give prompt, response_a, response_b, human_preference (a, b or tie); prompt, chosen, rejected; prompt, completions, scores; "
                "prompt, completion, score; or map your columns by data.0.columns",
            )
        _keep(one, found, [limit for limit in (max_rows, source.max_rows) if limit is not None])
    return found


def _keep(one: GoldSet, found: GoldSet, limits: Sequence[int]) -> None:
    """Add the prompts with the smallest hashes, as many as the limits leave."""
    rows = sorted(
        {pair.row for pair in one.pairs} | {answer[0] for answer in one.answers},
        key=lambda row: text_digest(f"gold/{row}"),
    )
    kept = set(rows[: min(limits)] if limits else rows)
    found.pairs += [pair for pair in one.pairs if pair.row in kept]
    found.answers += [answer for answer in one.answers if answer[0] in kept]
    found.read += one.read
    found.dropped.update(one.dropped)


def _of_source(source: SourceConfig) -> GoldSet:
    found = GoldSet()
    single: dict[str, tuple[Messages, list[str], list[float]]] = {}
    for row in read_rows(source):
        found.read += 1
        if isinstance(row, BrokenLine):
            found.dropped["broken line"] += 1
            continue
        try:
            _take(renamed(row, source.columns), found, single)
        except RowError as error:
            found.dropped[error.reason.replace("_", " ")] += 1
    votes.refuse_zero_and_one(found.numbers, source.path)
    votes.refuse_scale(found.numbers, source.path)
    for prompt, texts, scores in single.values():
        _take_scored(prompt, texts, scores, found)
    return found


def _take(row: Row, found: GoldSet, single: dict[str, tuple[Messages, list[str], list[float]]]) -> None:
    """One row of any shape; single answers of one prompt are gathered. Raises RowError."""
    if any(isinstance(row.get(name), list) for name in ("votes", "annotations")) and votes.is_votes(row):
        found.pairs.append(_voted(row))
        return
    for one, other in SIDES:
        if row.get(one) is not None and row.get(other) is not None:
            found.pairs.append(_compared(row, one, other))
            found.numbers.update(votes.numbers_of(row, GOLD))
            return
    if row.get("chosen") is not None:
        found.pairs.append(_shuffled(trl.parse(row, "preferences")[0]))
    elif any(row.get(name) is not None for name in comparison.ANSWERS):
        ranking = comparison.parse(row, "rankings")[0]
        _take_scored(ranking["prompt"], ranking["completions"], ranking["scores"], found)
    elif row.get("completion") is not None or row.get("response") is not None:
        score = number(next((row[name] for name in comparison.SCORES if row.get(name) is not None), None))
        if score is None:
            raise RowError("no_score")
        prompt = _prompt(row)
        _, texts, scores = single.setdefault(row_id("prompt", prompt), (prompt, [], []))
        texts.append(_text(row.get("completion", row.get("response"))))
        scores.append(score)
    else:
        raise RowError("not_two_answers_and_no_score")


def _take_scored(prompt: Messages, texts: Sequence[str], scores: Sequence[float], found: GoldSet) -> None:
    """The answers of one prompt, and the pairs that their scores put in an order; equal scores are a tie."""
    row = row_id("prompt", prompt)
    found.answers += [(row, prompt, text, score) for text, score in zip(texts, scores, strict=True)]
    for one, other in _meetings(row, len(texts)):
        if _second_goes_first(row, texts[one], texts[other]):
            one, other = other, one
        gold = 0.5 if scores[one] == scores[other] else float(scores[one] > scores[other])
        found.pairs.append(GoldPair(row, prompt, (texts[one], texts[other]), gold, scores=(scores[one], scores[other])))


def _meetings(row: str, count: int) -> list[tuple[int, int]]:
    if count <= MOST_ALL_PAIRS:
        return list(itertools.combinations(range(count), 2))
    order = sorted(range(count), key=lambda place: text_digest(f"{row}/{place}"))
    return [(order[place], order[(place + 1) % count]) for place in range(count)]


def _compared(row: Row, one: str, other: str) -> GoldPair:
    prompt, answers = _asked(row, one, other)
    families = (str(row.get("model_a") or ""), str(row.get("model_b") or ""))
    names = str(row.get("models") or row.get("cmp_key") or "").split("_")
    if families == ("", "") and len(names) == 2:
        families = (names[0], names[1])
    return GoldPair(row_id("prompt", prompt), prompt, answers, _preference(row), families)


def _voted(row: Row) -> GoldPair:
    """A row of the format `votes`, as `alignflow annotate --export` writes it: what most of the people said; equal shares are no gold
    label, since nobody called it a tie."""
    (prompt, first, second), given = votes.two_answers(row), votes.votes_of(row)
    found = settled(votes.share(given))
    if found == 0.5 and any(vote.share != 0.5 for vote in given):
        raise RowError("annotators_disagree")
    families = (str(row.get("model_a") or ""), str(row.get("model_b") or ""))
    return GoldPair(
        row_id("prompt", prompt), prompt, (first, second), found if found == 0.5 else float(found > 0.5), families
    )


def _asked(row: Row, one: str, other: str) -> tuple[Messages, tuple[str, str]]:
    """Prompt and both answers; two conversations (MT-bench) must be equal up to their last turns."""
    if isinstance(row[one], list):
        before, after = row[one][:-1], row[other][:-1]
        if [turn for turn in before if turn.get("role") == "user"] != [
            turn for turn in after if turn.get("role") == "user"
        ]:
            raise RowError("different_prompts")
        if before != after:  # each model answered the first turn itself: a judge would see one of two conversations
            raise RowError("conversations_differ_before_the_last_answer")
        return prompt_of(before), (_text(row[one][-1].get("content")), _text(row[other][-1].get("content")))
    return _prompt(row), (_text(row[one]), _text(row[other]))


def _prompt(row: Row) -> Messages:
    prompt = row.get("prompt", row.get("question"))
    if isinstance(prompt, list):
        return prompt_of(prompt)
    if prompt is None and isinstance(row.get("instruction"), str):
        prompt = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
    prompt = row.get("input") if prompt is None else prompt
    if not isinstance(prompt, str) or not prompt.strip():
        raise RowError("no_prompt")
    return user(prompt)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowError("answer_is_no_text")
    return value


def _preference(row: Row) -> float:
    """What people said: one label, or the majority of several annotators; raises RowError for one that is not understood."""
    if all(row.get(name) is not None for name in ANNOTATORS):
        said = Counter(_side(row[name]) for name in ANNOTATORS)
        value, most = said.most_common(1)[0]
        if most < 2:
            raise RowError("annotators_disagree")
        return value
    for name in GOLD:
        if row.get(name) is not None:
            return _side(row[name])
    raise RowError("no_gold_label")


def _side(value: Any) -> float:
    try:
        return votes.share_of(value)
    except RowError:
        raise RowError("gold_label_not_understood") from None


def _shuffled(row: Row) -> GoldPair:
    """A pair of chosen and rejected: which of them comes first is decided by a hash of the row, so that sides tell nothing."""
    chosen, rejected = (_text(row[name][-1]["content"]) for name in ("chosen", "rejected"))
    first = not _second_goes_first(row["prompt"], chosen, rejected)
    answers = (chosen, rejected) if first else (rejected, chosen)
    scores = (row.get("score_chosen"), row.get("score_rejected"))
    return GoldPair(
        row_id("prompt", row["prompt"]), row["prompt"], answers, float(first), scores=scores if first else scores[::-1]
    )


def _second_goes_first(*pair: Any) -> bool:
    """Decided by a hash of the pair, since files often have the better answer first."""
    return int(text_digest(row_id("sides", *pair))[:8], 16) % 2 == 1
