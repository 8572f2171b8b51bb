"""A conversation with a model: its turns, how they fit into the context, and how they are saved. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignflow.data.errors import UserError

Turn = dict[str, str]
Count = Callable[[Sequence[Turn]], int]
"""Counts the tokens of turns as a prompt."""


@dataclass
class Conversation:
    """The turns of a person and a model.

    Attributes:
        system: System message before all turns; empty for none.
        turns: In order, starting with the person's.
    """

    system: str = ""
    turns: list[Turn] = field(default_factory=list)

    @property
    def messages(self) -> list[Turn]:
        """All turns, with the system message first."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str) -> None:
        """Add a turn of the person."""
        self.turns.append({"role": "user", "content": text})

    def take_back(self) -> None:
        """Remove the person's last turn, because the model did not answer it."""
        self.turns.pop()

    def answered(self, text: str) -> None:
        """Add a turn of the model."""
        self.turns.append({"role": "assistant", "content": text})

    def make_room(self, count: Count, room: int) -> int:
        """Drop the oldest questions with their answers until at most `room` tokens are left; returns how many turns were dropped.

        Raises:
            UserError: the last question with the system message alone is longer.
        """
        dropped = 0
        while (tokens := count(self.messages)) > room:
            if len(self.turns) <= 1:
                raise UserError(
                    f"this is {tokens} tokens, but the context has room for only {room} besides the answer",
                    where="chat",
                    do="write less, or start chat with a smaller --max-new-tokens",
                )
            del self.turns[:2]
            dropped += 2
        return dropped


def save(path: Path, conversations: Sequence[tuple[str, Conversation]], again: bool) -> None:
    """Write each conversation as a JSON line with `messages`, as in data sets; raises UserError if that fails.

    Args:
        path: The file to write.
        conversations: Name of the model and its conversation.
        again: Whether this chat wrote the file before and may replace it.
    """
    lines = [
        json.dumps({"model": name, "messages": conversation.messages}, ensure_ascii=False) + "\n"
        for name, conversation in conversations
    ]
    try:
        with open(path, "w" if again else "x", encoding="utf-8") as file:
            file.writelines(lines)
    except FileExistsError:
        raise UserError("the file exists already", where=f"/save {path}", do="choose another name") from None
    except (OSError, ValueError) as error:  # a path with a null byte raises ValueError
        raise UserError(
            f"the file cannot be written ({error})", where=f"/save {path}", do="choose another name"
        ) from None
