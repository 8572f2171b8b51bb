"""A conversation with a model: its turns, what of them fits into the context, and how it is saved. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignflow.data.errors import UserError

Turn = dict[str, str]
Count = Callable[[Sequence[Turn]], int]
"""How many tokens turns are as a prompt."""


@dataclass
class Conversation:
    """What a person and a model said.

    Attributes:
        system: What stands before all turns; empty for nothing.
        turns: In their order; they begin with the person's.
    """

    system: str = ""
    turns: list[Turn] = field(default_factory=list)

    @property
    def messages(self) -> list[Turn]:
        """All turns, that of the system first."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str) -> None:
        """The person said this."""
        self.turns.append({"role": "user", "content": text})

    def take_back(self) -> None:
        """Forget what the person said last, since the model does not answer it."""
        self.turns.pop()

    def answered(self, text: str) -> None:
        """The model said this."""
        self.turns.append({"role": "assistant", "content": text})

    def make_room(self, count: Count, room: int) -> int:
        """Drop the oldest questions with their answers until the rest is at most `room` tokens; returns how many turns were dropped.

        Raises:
            UserError: the last question alone, with the system's turn, is longer.
        """
        dropped = 0
        while (tokens := count(self.messages)) > room:
            if len(self.turns) <= 1:
                raise UserError(
                    f"this is {tokens} tokens, and the context has room for {room} beside the answer",
                    where="chat",
                    do="say it in fewer words, or start chat with a smaller --max-new-tokens",
                )
            del self.turns[:2]
            dropped += 2
        return dropped


def save(path: Path, conversations: Sequence[tuple[str, Conversation]], again: bool) -> None:
    """Write conversations as a JSON line each, with `messages` as data sets have them; raises UserError where that fails.

    Args:
        path: Where.
        conversations: Name of the model, and what was said.
        again: Whether this chat wrote the file before, so that it may be replaced.
    """
    lines = [
        json.dumps({"model": name, "messages": conversation.messages}, ensure_ascii=False) + "\n"
        for name, conversation in conversations
    ]
    try:
        with open(path, "w" if again else "x", encoding="utf-8") as file:
            file.writelines(lines)
    except FileExistsError:
        raise UserError("the file exists already", where=f"/save {path}", do="give another name") from None
    except (OSError, ValueError) as error:  # a path with a zero byte raises ValueError
        raise UserError(f"it cannot be written ({error})", where=f"/save {path}", do="give another name") from None
