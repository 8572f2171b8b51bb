"""Judge demonstrations: human preferences as conversations in which a judge is asked and answers correctly, to fine-tune a judge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.options import LLMJudgeOptions
from alignflow.data.errors import DataError
from alignflow.data.judging.gold import GoldPair
from alignflow.data.records import assistant
from alignflow.models.judges.blanks import same_answer
from alignflow.models.judges.llm import VARIABLES
from alignflow.models.judges.questions import QuestionTemplate

TIE = "tie"
IDENTICAL = "identical answers"


@dataclass(frozen=True)
class Written:
    """How many demonstrations were written, and, by reason, how many pairs gave none."""

    rows: int
    pairs: int
    dropped: dict[str, int]


def demonstrations(
    pairs: Iterable[GoldPair], options: LLMJudgeOptions | None = None, dropped: Counter[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Two rows `{messages}` for each pair: the question of the judge `llm` in both orders, and the right option.

    Ties and equal answers give none; `dropped` counts them. Over both orders each option is right equally often, so a model
    that learns from all rows cannot learn to prefer a position.
    """
    options = options or LLMJudgeOptions()
    template = QuestionTemplate(options.prompt, VARIABLES)
    key = text_digest(template.source)
    dropped = Counter() if dropped is None else dropped
    for pair in pairs:
        if pair.gold == 0.5 or same_answer(*pair.answers):
            dropped[TIE if pair.gold == 0.5 else IDENTICAL] += 1
            continue
        for swapped in (False, True):
            first, second = reversed(pair.answers) if swapped else pair.answers
            question = template.fenced(
                key, pair.prompt, {"first": first, "second": second}, options=options.options, principle=""
            )
            right = options.options[int((pair.gold > 0.5) == swapped)]
            yield {"messages": [*map(dict, question.messages), *assistant(right)]}


def write_demonstrations(pairs: Sequence[GoldPair], path: Path, options: LLMJudgeOptions | None = None) -> Written:
    """Write the demonstrations of some pairs as JSON lines; raises DataError if there are none, or the file exists already."""
    dropped: Counter[str] = Counter()
    rows = list(demonstrations(pairs, options, dropped))
    if not rows:
        raise DataError(
            f"none of {len(pairs)} pairs says which answer is better ({dict(dropped)})",
            where=str(path),
            do="use pairs with a human preference for one answer",
        )
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    except OSError as error:
        raise DataError(
            f"it cannot be written: {error.strerror or error}", where=str(path), do="pass another --out"
        ) from None
    return Written(len(rows), len(rows) // 2, dict(dropped))
