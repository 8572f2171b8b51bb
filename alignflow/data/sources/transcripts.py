"""Conversations that are written as one text: hh-rlhf's transcripts, guanaco's, and what chat templates write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.sources.base import Messages, RowError

ROLES: Mapping[str, str] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "developer": "system",
}
TOOL_ROLES = frozenset(
    {
        "tool",
        "function",
        "function_call",
        "observation",
        "tool_call",
        "tool_calls",
        "tool_response",
        "tool_result",
        "ipython",
    }
)
_MARKED_ROLE = re.compile(r"<\|[^|]*\|>")


@dataclass(frozen=True)
class Notation:
    """A way to write turns.

    Attributes:
        mark: What stands before each turn, with its speaker as the one group.
        end: What a turn may end with.
        is_open: Whether only a text that ends with the assistant's mark counts: a script for the stage looks the same otherwise.
        has_tokens: Whether the marks are control tokens. Any name may stand in them, and one turn that is ended is a transcript, too.
    """

    mark: re.Pattern[str]
    end: re.Pattern[str] | None = None
    is_open: bool = False
    has_tokens: bool = False


_SPEAKERS = {**ROLES, "instruction": "user", "response": "assistant"}
_END = re.compile(r"(?:(?:<\|im_end\|>|<\|end\|>|<\|endoftext\|>|<\|eot_id\|>|</s>)\s*)+\Z")
_NO_SPEAKERS = (
    "im_start|im_end|im_sep|end|endoftext|end_of_text|begin_of_text|end_of_turn|start_header_id|end_header_id|eot_id|eom_id"
    "|start|channel|message|return|call"
)
_ANYWHERE = ("user", "assistant", "system", "prompter", "developer", *sorted(TOOL_ROLES))
"""Speakers whose marks count within a line, too, since GLM and others write them there; a mark of another name begins a line."""
_TOKEN = re.compile(rf"<\|(?:{_NO_SPEAKERS})\|>")
"""Control tokens of chat templates that are no speaker's mark."""
NOTATIONS: tuple[Notation, ...] = (
    Notation(re.compile(r"(?:\A\s*|\r?\n\r?\n)(Human|Assistant):")),
    # Of other names only those of tools: `### Summary:` is a heading within an answer.
    Notation(
        re.compile(
            r"(?<!#)###\s*(Human|Assistant|User|System|Instruction|Response|Tool(?:[ _]\w+)?|Function[ _]Call|Observation)\s*:"
        )
    ),
    Notation(re.compile(r"<\|im_start\|>(\w+)\r?\n"), _END, has_tokens=True),
    Notation(
        re.compile(rf"(?:<\|(?=(?:{'|'.join(_ANYWHERE)})\|>)|(?<![^\n>])<\|(?!(?:{_NO_SPEAKERS})\|>))(\w+)\|>"),
        _END,
        has_tokens=True,
    ),
    Notation(re.compile(r"(?i:(?:\A\s*|\n)(Human|User|Assistant|AI|System):)"), is_open=True),
    Notation(re.compile(r"(?:\A\s*|\s)(SYSTEM|USER|ASSISTANT):"), re.compile(r"</s>\s*\Z"), is_open=True),
)
_OTHERS = re.compile(
    r"\A\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*(?:\[INST\]|<start_of_turn>|<\|start_header_id\|>|<\|start\|>)"
)
"""How texts begin that another chat template has written, which are not taken apart here."""


_MAY_BEGIN = re.compile(r"\s*(?:[#<\[]|(?i:Human|User|Assistant|AI|System):)")
"""How every text begins that is one of these, as a check that costs little."""


_OF_HH = re.compile(r"\r?\n\r?\nHuman:")


def marked_role(name: str) -> str:
    """A speaker's name in lower case, without the control tokens that some data sets leave around it."""
    return name if name in ROLES else _MARKED_ROLE.sub("", name).strip().lower()


def _notation(value: str) -> Notation | None:
    """The notation that a text is written in: it begins with a mark, and has marks of both speakers, or control tokens."""
    return next((notation for notation in NOTATIONS if _fits(notation, value)), None)


def _fits(notation: Notation, value: str) -> bool:
    first = notation.mark.match(value.lstrip() if notation is not NOTATIONS[0] else value)
    if first is None:
        return False
    marks = list(notation.mark.finditer(value))
    speakers = [_SPEAKERS.get(mark[1].lower(), "") for mark in marks]
    if notation.has_tokens:
        return not {"user", "assistant"}.isdisjoint(speakers) and (len(marks) > 1 or bool(_END.search(value)))
    if notation.is_open and (speakers[-1] != "assistant" or value[marks[-1].end() :].strip()):
        return False
    return {"user", "assistant"} <= set(speakers) or bool(_OF_HH.match(value))


def is_transcript(value: str) -> bool:
    """Whether a text is a conversation; raises RowError (`rendered_template`) for one that is not taken apart here."""
    if not _MAY_BEGIN.match(value):
        return False
    if _OTHERS.match(value):
        raise RowError("rendered_template")
    found = _notation(value)
    if found is None and value.lstrip().startswith("<|im_start|>"):
        raise RowError("rendered_template")
    return found is not None


def transcript_turns(value: str) -> Messages:
    """The turns of a transcript. A mark without text at the end (`Assistant:`) is where the answer begins, and no turn.

    Two turns of one speaker in a row are a slip of the data sets themselves, and join into one.

    Raises:
        RowError: `no_transcript`: it is not one; `empty`: a turn without text; `tool_calls`, `unknown_role`: a turn of a tool, or of
            a speaker that is not known; `rendered_template`: a turn with a control token inside.
    """
    notation = _notation(value)
    if notation is None:
        raise RowError("no_transcript")
    parts = notation.mark.split(value)[1:]
    turns: Messages = []
    for index, (speaker, said) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        role = _role(speaker)
        content = _said(notation, said).strip()
        if not content:
            if index == len(parts) // 2 - 1 and role == "assistant" and turns:
                break
            raise RowError("empty")
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{content}"
        else:
            turns.append({"role": role, "content": content})
    return turns


def _role(speaker: str) -> str:
    name = speaker.lower()
    if "_".join(name.split()) in TOOL_ROLES or name.startswith("tool"):
        raise RowError("tool_calls")
    if name not in _SPEAKERS:
        raise RowError("unknown_role")
    return _SPEAKERS[name]


def _said(notation: Notation, said: str) -> str:
    """A turn without the notation's end; raises RowError where a control token is left in it."""
    content = notation.end.sub("", said) if notation.end else said
    if _TOKEN.search(content):
        raise RowError("rendered_template")
    return content


def without_end(answer: str, prompt: object) -> str:
    """A text answer without what the notation of its prompt writes around it: the blank after `Assistant:`, and the end of a turn.

    As it is where the prompt is no transcript.

    Raises:
        RowError: `rendered_template`: a control token is left in it.
    """
    notation = _notation(prompt) if ("<" in answer or answer[:1] == " ") and isinstance(prompt, str) else None
    if notation is None:
        return answer
    return (answer if notation.end is None else _said(notation, answer)).removeprefix(" ")
