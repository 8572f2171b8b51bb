"""The one builder of conversations: from what any format has of them to turns, checked.

A conversation is a list of `{role, content}`: a system turn or none, then user and assistant in turn. What stands in other
columns (`system`, `history`) is put where it belongs, and an answer is joined to its prompt by `answered`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignflow.data.records import as_seen, assistant, normalise_text, user
from alignflow.data.sources.base import Messages, Row, RowError, TwoValues, is_blank, text
from alignflow.data.sources.tool_calls import parsed_json
from alignflow.data.sources.transcripts import is_transcript, transcript_turns, without_end
from alignflow.data.sources.turn_order import ordered
from alignflow.data.sources.turns import raw_turns, turn_list
from alignflow.data.tools import told

SYSTEM = (
    "system",
    "system_prompt",
    "system_message",
    "system_instruction",
    "system_instructions",
    "systemPrompt",
    "sys_prompt",
    "sys",
)
"""Columns that hold a system turn."""
HISTORY = ("history", "chat_history", "conversation_history")
"""Columns that hold the turns before a prompt."""
ASKING = ("user", "tool")
"""Roles after which an answer follows."""


def placed(row: Row, messages: Messages) -> Messages:
    """A conversation with what stands beside it in the row: the text of a system column first, then the turns of `history`.

    Raises:
        RowError: `two_system_prompts`, `unknown_history`, or the turns do not alternate.
    """
    system, spoken = _system_and_rest(messages)
    return ordered([*_one_system(_system_columns(row), system), *_history(row), *spoken])


def _system_and_rest(messages: Messages) -> tuple[Messages, Messages]:
    first = 1 if messages[0]["role"] == "system" else 0
    return messages[:first], messages[first:]


def _system_columns(row: Row) -> Messages:
    said = [row[name] for name in SYSTEM if name in row and not is_blank(row[name])]
    found = {text(value) for value in said if not isinstance(value, TwoValues)}
    if any(isinstance(value, TwoValues) for value in said):
        raise RowError("two_system_prompts")
    if len(found) > 1:
        raise RowError("two_system_prompts")
    return [{"role": "system", "content": content} for content in found]


def _one_system(*given: Messages) -> Messages:
    found = [turns for turns in given if turns]
    if len({normalise_text(turns[0]["content"]) for turns in found}) > 1:
        raise RowError("two_system_prompts")
    return found[0] if found else []


def _history(row: Row) -> Messages:
    """Earlier turns: Alpaca's pairs [question, answer], or turns with roles; a table of text holds them as JSON."""
    given = [row[name] for name in HISTORY if name in row and not is_blank(row[name])]
    if not given:
        return []
    value = given[0]
    if isinstance(value, TwoValues) or any(other != value for other in given):
        raise RowError("unknown_history")
    if isinstance(value, str):
        value = parsed_json(value, "unknown_history")
    if not isinstance(value, list):
        raise RowError("unknown_history")
    if all(isinstance(item, Mapping) for item in value):
        return turn_list(value)
    if not all(isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2 for item in value):
        raise RowError("unknown_history")
    return [turn for question, answer in value for turn in (*user(text(question)), *assistant(text(answer)))]


def prompt_turns(row: Row, value: Any) -> Messages:
    """A prompt that is a text, a transcript or a conversation, in its context; it must end with the user, or with the result of a tool.

    Raises:
        RowError: it ends with something else (`no_prompt`), or cannot be used.
    """
    if isinstance(value, str):
        turns = transcript_turns(value) if is_transcript(value) else user(text(value))
    else:
        turns = turn_list([value] if isinstance(value, Mapping) else value)
    if turns[-1]["role"] not in ASKING:
        raise RowError("no_prompt")
    return placed(row, turns)


def answered(row: Row, prompt: Messages | None, value: Any) -> Messages:
    """The conversation that ends with the answer `value`.

    Args:
        row: The raw row, for what stands beside.
        prompt: What `prompt_turns` made of the row's prompt; None where the answer holds the whole conversation.
        value: A text, one turn, the turns that follow the prompt, or the whole conversation (as turns or as a transcript).

    Raises:
        RowError: it does not end with the assistant (`no_answer`), does not go on from the prompt (`different_prompts`), ...
    """
    if value is None:
        raise RowError("missing_column")
    if isinstance(value, str):
        asked = next((row[name] for name in ("prompt", "instruction", "question") if row.get(name) is not None), None)
        turns = transcript_turns(value) if is_transcript(value) else assistant(text(without_end(value, asked)))
    else:
        turns = raw_turns(value, "assistant") if isinstance(value, Mapping) else turn_list(value)
    if turns[-1]["role"] != "assistant":
        raise RowError("no_answer")
    if turns[0]["role"] in ("assistant", "tool"):
        if prompt is None:
            raise RowError("missing_column")
        return ordered([*prompt, *turns])
    return placed(row, turns) if prompt is None else _merged(prompt, ordered(turns))


def _merged(prompt: Messages, turns: Messages) -> Messages:
    """A whole conversation beside a prompt: the prompt must be its beginning, or its last question."""
    system, asked = _system_and_rest(prompt)
    own_system, spoken = _system_and_rest(turns)
    questions = [turn for turn in spoken if turn["role"] == "user"]
    if not (_same(asked, spoken[: len(asked)]) or _same(asked, questions[-1:])):
        raise RowError("different_prompts")
    return [*_one_system(system, own_system), *spoken]


def _same(turns: Messages, others: Messages) -> bool:
    return [(turn["role"], normalise_text(told(turn))) for turn in turns] == [
        (turn["role"], normalise_text(told(turn))) for turn in others
    ]


def demonstration(messages: Messages) -> Row:
    """A row of demonstrations: up to the last assistant turn that is trained on, since what follows it changes nothing.

    Raises:
        RowError: the conversation does not end with the assistant (`no_answer`), or no turn of it is to be trained on
            (`nothing_to_train`).
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise RowError("no_answer")
    last = max(
        (index for index, turn in enumerate(messages) if turn["role"] == "assistant" and "weight" not in turn),
        default=None,
    )
    if last is None:
        raise RowError("nothing_to_train")
    return {"messages": messages[: last + 1]}


def prompt_of(messages: Messages) -> Messages:
    """The conversation up to its last turn of a user or a tool, without weights."""
    prompt = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    if not prompt or prompt[-1]["role"] not in ASKING:
        raise RowError("no_prompt")
    return _bare(prompt)


def answer_of(messages: Messages) -> str:
    """The last turn's text, which must be an answer that may be learnt from, and that is a text alone."""
    if messages[-1]["role"] != "assistant":
        raise RowError("no_answer")
    if "weight" in messages[-1]:
        raise RowError("nothing_to_train")
    if "tool_calls" in messages[-1]:
        raise RowError("answer_is_tool_call")
    if "reasoning_content" in messages[-1]:
        raise RowError("reasoning_not_used")
    text: str = messages[-1]["content"]
    return text


def _bare(messages: Messages) -> Messages:
    return [{name: value for name, value in turn.items() if name != "weight"} for turn in messages]


def preference(chosen: Messages, rejected: Messages, **figures: float | None) -> Row:
    """A row of preferences from two conversations that differ in their last turn alone.

    Raises:
        RowError: they differ before it (`different_prompts`), or not at all (`identical_pair`).
    """
    prompt = prompt_of(chosen)
    if prompt != prompt_of(rejected):
        raise RowError("different_prompts")
    good, bad = answer_of(chosen), answer_of(rejected)
    if as_seen(good).strip() == as_seen(bad).strip():
        raise RowError("identical_pair")
    return {"prompt": prompt, "chosen": assistant(good), "rejected": assistant(bad), **figures}


def unpaired(messages: Messages, label: bool) -> Row:
    """A row of answers with a label: the conversation's last turn is the answer."""
    return {"prompt": prompt_of(messages), "completion": assistant(answer_of(messages)), "label": label}
