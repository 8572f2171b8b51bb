"""What takes messages and gives text: endpoints that exchange no token ids. Engines share this protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ChatRequest:
    """One question.

    Attributes:
        messages: The conversation; it ends with a user's turn, or with the beginning of the answer where `continues`.
        max_new_tokens: Longest reply.
        temperature: 0 takes the most probable token.
        top_p: Smallest set of tokens with this probability; 1 is off.
        seed: Of this reply, where the endpoint takes one.
        choices: The only texts that the reply may be, one token each; their log-probabilities are wanted. Empty: free text.
        continues: Whether the last message is the beginning of the assistant's answer, which the reply goes on with.
    """

    messages: tuple[Mapping[str, str], ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    choices: tuple[str, ...] = ()
    continues: bool = False


@dataclass(frozen=True)
class ChatReply:
    """What came back.

    Attributes:
        text: The reply, without what a model thought before it.
        ended: Whether the model stopped by itself.
        prompt_tokens: Tokens of the question, as the endpoint counts them; None where it does not say.
        completion_tokens: Tokens of the reply, likewise.
        logps: Log-probabilities of the choices at the reply's first token, among all tokens where `whole`; a choice that the endpoint did
            not list is missing. None where the endpoint gives none.
        whole: Whether `logps` are those among all tokens; else they are renormalised over the choices.
    """

    text: str
    ended: bool
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logps: Mapping[str, float] | None = None
    whole: bool = True


class ChatEngine(Protocol):
    """An endpoint that answers.

    Attributes:
        identity: What tells its model from another in a row's id.
    """

    identity: str

    def reply(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """A reply to each request, in their order; raises ModelError where the endpoint does not answer after all retries.

        What was answered before that is kept, and is not asked again.
        """

    def close(self) -> None:
        """Give connections and processes back."""
