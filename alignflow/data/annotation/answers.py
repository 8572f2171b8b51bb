"""What a person said of pairs: a line of JSON each, on the disk before the next pair is shown. A killed session loses nothing."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from alignflow.data.annotation.pairs import AnnotatedPair, draw
from alignflow.data.errors import DataError, UserError

PREFERENCES = ("a", "b", "tie")
SKIP, UNDO = "skip", "undo"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class Answer:
    """One person's answer on one pair.

    Attributes:
        item: The pair's id.
        preference: a, b, tie, or skip; undo takes the item's last answer back.
        seconds: From the moment the pair was shown.
        created_at: ISO 8601, UTC.
        note: The person's words, or empty.
        left: Which answer was shown first: a or b.
    """

    item: str
    preference: str
    seconds: float
    created_at: str
    note: str = ""
    left: str = "a"


def check_annotator(name: str) -> str:
    """A name that can be part of a file's name; raises UserError."""
    if not NAME.fullmatch(name):
        raise UserError(
            "a name has up to 40 letters, digits, dots, dashes and underscores",
            where="--annotator",
            do="write it like anna or rater-7",
        )
    return name


def path_of(directory: Path, annotator: str) -> Path:
    """The file of a person's answers."""
    return directory / f"answers.{annotator}.jsonl"


def annotators(directory: Path) -> list[str]:
    """Names of those who have answered."""
    return sorted(
        path.name.removeprefix("answers.").removesuffix(".jsonl") for path in directory.glob("answers.*.jsonl")
    )


def read_answers(directory: Path, annotator: str) -> list[Answer]:
    """All lines that a person's session wrote, in their order; one that a kill cut off at the end is left out.

    Raises:
        DataError: a line before the last one is no answer.
    """
    path = path_of(directory, annotator)
    content = path.read_bytes() if path.is_file() else b""
    lines = content.split(b"\n")[:-1]  # what follows the last end of line was cut
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Answer(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"line {number} is no answer ({error})", where=str(path), do="repair or remove the line"
            ) from error
    return found


def standing(answers: Sequence[Answer]) -> dict[str, Answer]:
    """Item -> the answer that counts, in the order in which they were given; skipped items are among them."""
    found: dict[str, Answer] = {}
    for answer in answers:
        found.pop(answer.item, None)
        if answer.preference != UNDO:
            found[answer.item] = answer
    return found


class Session:
    """One person at work: which pair is next, and what was said. One session of a person at a time.

    Args:
        directory: Of the annotation.
        pairs: Its pairs.
        annotator: Who.
        overlap: Share of the pairs that everybody labels; of the others, those that somebody else has labelled are not shown.

    Raises:
        UserError: another session of that person is open.
    """

    def __init__(self, directory: Path, pairs: Sequence[AnnotatedPair], annotator: str, overlap: float = 1.0):
        self.annotator, self._directory, self._overlap = annotator, directory, overlap
        self._pairs = {pair.id: pair for pair in pairs}
        self._order = sorted(self._pairs, key=lambda name: draw(f"{annotator}/{name}"))
        self._file = _locked(path_of(directory, annotator))
        self._given = standing(read_answers(directory, annotator))

    def close(self) -> None:
        """Let another session of the person begin."""
        self._file.close()

    def left(self, item: str) -> str:
        """Which answer of a pair stands first for this person: a or b."""
        return "a" if draw(f"{self.annotator}/left/{item}") < 0.5 else "b"

    def _mine(self) -> list[str]:
        """The pairs that this person labels, in their order."""
        if self._overlap >= 1:
            return self._order
        others = {
            item
            for name in annotators(self._directory)
            if name != self.annotator
            for item, answer in standing(read_answers(self._directory, name)).items()
            if answer.preference != SKIP
        }
        return [
            item
            for item in self._order
            if item in self._given or item not in others or draw(f"overlap/{item}") < self._overlap
        ]

    def state(self) -> dict[str, Any]:
        """What the page shows: `done`, `total`, `can_undo`, and the next pair (`item`, `prompt`, `answers` in this person's order), or None."""
        mine = self._mine()
        done = [item for item in mine if item in self._given]
        item = next((name for name in mine if name not in self._given), None)
        shown = None
        if item is not None:
            pair = self._pairs[item]
            answers = [pair.response_a, pair.response_b]
            ordered = answers if self.left(item) == "a" else answers[::-1]
            turns = [{"role": str(turn["role"]), "content": str(turn.get("content") or "")} for turn in pair.prompt]
            shown = {"item": item, "prompt": turns, "answers": ordered}
        return {"done": len(done), "total": len(mine), "can_undo": bool(self._given), "pair": shown}

    def answer(self, item: str, choice: str, seconds: float, note: str = "") -> None:
        """Keep an answer: choice is first, second, tie or skip, as the pair was shown. It is on the disk when this returns.

        Raises:
            ValueError: no such pair or choice, or it has an answer already.
        """
        if item not in self._pairs or item in self._given or choice not in ("first", "second", "tie", SKIP):
            raise ValueError("no such pair is open")
        left = self.left(item)
        right = "b" if left == "a" else "a"
        preference = {"first": left, "second": right}.get(choice, choice)
        self._append(Answer(item, preference, round(max(seconds, 0.0), 3), _now(), note, left))

    def undo(self) -> bool:
        """Take the last answer back, of whatever session; False where there is none."""
        if not self._given:
            return False
        item = next(reversed(self._given))
        self._append(Answer(item, UNDO, 0.0, _now(), "", self.left(item)))
        return True

    def _append(self, answer: Answer) -> None:
        line = json.dumps(vars(answer), ensure_ascii=False).encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._given.pop(answer.item, None)
        if answer.preference != UNDO:
            self._given[answer.item] = answer


def _locked(path: Path) -> IO[bytes]:
    """The file of answers, open at its end for one session; what a kill cut off is taken away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError(
            "that annotator has a session open", where=str(path), do="end it first, or take another --annotator"
        ) from None
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
        file.flush()
        os.fsync(file.fileno())
    return file


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def votes_by_annotator(directory: Path) -> dict[str, dict[str, Answer]]:
    """Annotator -> item -> the answer that counts; skipped ones are no answer."""
    return {
        name: {
            item: each
            for item, each in standing(read_answers(directory, name)).items()
            if each.preference in PREFERENCES
        }
        for name in annotators(directory)
    }


def export_rows(directory: Path, pairs: Sequence[AnnotatedPair]) -> list[dict[str, Any]]:
    """A row for each labelled pair, as the format `votes` reads it: prompt, both answers and who said what of them."""
    given = votes_by_annotator(directory)
    rows = []
    for pair in pairs:
        votes = [
            {
                "annotator": name,
                "preference": answer.preference,
                "seconds": answer.seconds,
                "created_at": answer.created_at,
                "note": answer.note,
            }
            for name, answers in given.items()
            if (answer := answers.get(pair.id)) is not None
        ]
        if votes:
            rows.append({**vars(pair), "votes": votes})
    return rows
