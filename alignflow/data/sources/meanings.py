"""Columns and keys that change what a row means: they are understood, or the row is dropped for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alignflow.data.sources.base import Row, RowError, flag, is_blank
from alignflow.data.sources.hermes import is_bare_call, is_call, tells_tools, with_bare_calls, without_marks
from alignflow.data.sources.labelling import with_labelling
from alignflow.data.sources.labels import COLUMNS as LABELS
from alignflow.data.sources.labels import label_or_none
from alignflow.data.sources.tool_calls import (
    CALL_KEYS,
    REASONING_KEYS,
    RESULT_ROLES,
    TOOL_COLUMNS,
    refuse_unknown_tools,
    row_tools,
)
from alignflow.data.sources.turn_order import ordered
from alignflow.data.tools import with_tools

ParserTable = Mapping[str, Callable[[Row], list[Row]]]

_CALLS = (*CALL_KEYS, "tool_responses")
_IMAGES = (
    "images",
    "image",
    "image_url",
    "image_urls",
    "image_path",
    "image_paths",
    "image_file",
    "image_files",
    "img",
    "imgs",
    "videos",
    "video",
    "video_path",
    "pixel_values",
)
_AUDIO = ("audios", "audio", "input_audio", "audio_path", "audio_file")
_REASONING = ("reasoning_content", "thinking")
_REASONING_OF_A_TURN = ("reasoning_text", "reasoning_details", "thought", "thoughts", "cot", "chain_of_thought")
_MASKS = ("mask", "masked", "is_masked", "ignore")
"""Keys of a turn of which some tools say that it is trained on, and others that it is not."""
_HARMLESS = {"channel": "final", "recipient": "all"}
"""What keys say that mean an ordinary answer: OpenAI's harmony writes them to every turn."""

_MEDIA: Mapping[str, str] = {
    **dict.fromkeys(_IMAGES, "images"),
    **dict.fromkeys(_AUDIO, "audio"),
    "chat_template_kwargs": "chat_template_kwargs_not_used",
    "thinking_blocks": "reasoning_not_used",
}
ROW_REASONS: Mapping[str, str] = {
    **_MEDIA,
    **dict.fromkeys(_CALLS, "tool_calls"),
    **dict.fromkeys(_REASONING, "reasoning_not_used"),
}
"""Columns of a row -> why a row is dropped that has something in them."""
TURN_REASONS: Mapping[str, str] = {
    **_MEDIA,
    **dict.fromkeys(TOOL_COLUMNS, "tools_in_a_turn"),
    "tool_responses": "tool_calls",
    "refusal": "refusal_not_used",
    **dict.fromkeys(_REASONING_OF_A_TURN, "reasoning_not_used"),
    "channel": "reasoning_not_used",
    "recipient": "tool_calls",
    **dict.fromkeys(_MASKS, "unknown_weight"),
    "attachments": "unknown_content",
    "train_detail": "unknown_weight",
    "training_detail": "unknown_weight",
    "loss_scale": "unknown_weight",
    "loss_weight": "unknown_weight",
    "prefix": "unfinished_answer",
    "partial": "unfinished_answer",
    "deleted": "deleted",
}
"""Keys of a turn -> why a row is dropped whose turn has something in them."""
STRUCTURED_REASONS: Mapping[str, str] = {
    **dict.fromkeys(CALL_KEYS, "tool_calls"),
    "tool_call_id": "tool_calls",
    **dict.fromkeys(REASONING_KEYS, "reasoning_not_used"),
}
"""The same for keys that only some turns may have: calls and thinking are the assistant's, the id of a call belongs to its result."""
PART_REASONS: Mapping[str, str] = {
    "image": "images",
    "image_url": "images",
    "input_image": "images",
    "video": "images",
    "video_url": "images",
    "audio": "audio",
    "input_audio": "audio",
    "audio_url": "audio",
    "tool_use": "tool_calls",
    "tool_result": "tool_calls",
    "tool_call": "tool_calls",
    "function_call": "tool_calls",
    "thinking": "reasoning_not_used",
    "redacted_thinking": "reasoning_not_used",
    "reasoning": "reasoning_not_used",
    "refusal": "refusal_not_used",
}
"""Types of a part of a content -> why a row is dropped that has such a part."""
WEIGHTS = ("weight", "train", "training", "loss", "loss_mask", "trainable", "train_on_turn", "learn")
"""Keys of a turn that say whether it is trained on: OpenAI's, axolotl's (two), ms-swift's, and others of the same sense."""
_ROW_WEIGHTS = ("weight", "train")
"""Columns that say it of a whole row; a column `loss` or `training` may as well be a figure."""
TURN_KEYS = frozenset(
    {*TURN_REASONS, *STRUCTURED_REASONS, *WEIGHTS, "role", "from", "content", "value", "text", *LABELS}
)
_SWITCHED_OFF = (0, "0", "false", "False")
_ANSWERED = ("demonstrations",)
"""Kinds whose rows teach the one answer of a row as a good one."""
PAIRS = "preferences"
"""The kind whose rows have a weight that is a number, and say who labelled them: see `labelling.py`."""
_NOT_TRAINED_ON = ("texts", "prompts")
"""Kinds whose rows have no answer that a weight could be meant for."""


def parse_with(table: ParserTable, row: Row, kind: str) -> list[Row]:
    """Run the parser of `kind`, after the columns that change what the row means; a format without that parser drops the row.

    Raises:
        RowError: the row cannot be used.
    """
    if kind not in table:
        raise RowError("not_of_this_kind")
    if kind != "texts":
        refuse_meanings(row, ROW_REASONS)
    if kind in _ANSWERED and label_or_none(row) is False:
        raise RowError("labelled_bad")
    weights = _ROW_WEIGHTS if kind != PAIRS else tuple(name for name in _ROW_WEIGHTS if name != "weight")
    if kind not in _NOT_TRAINED_ON and not trained(
        {name: row[name] for name in weights if name in row}, is_answer=True
    ):
        raise RowError("nothing_to_train")
    if kind == "texts":
        return table[kind](row)
    tools = row_tools(row)
    found = [_given_tools(each, tools) for each in table[kind](row)]
    return [with_labelling(each, row) for each in found] if kind == PAIRS else found


def _given_tools(row: Row, tools: list[dict[str, Any]]) -> Row:
    """A row with the tools that its conversation may use; where the system turn tells them, its text does."""
    if not tools:
        return row
    name = "messages" if "messages" in row else "prompt"
    messages = ordered(with_bare_calls(without_marks(row[name]), tools))  # texts have become calls and results
    answers = [
        *(turn["content"] for side in ("chosen", "rejected", "completion") for turn in row.get(side) or ()),
        *row.get("completions", ()),
    ]
    if any(is_call(answer) or is_bare_call(answer, tools) for answer in answers):
        raise RowError("answer_is_tool_call")
    refuse_unknown_tools(messages, tools)
    return {**row, name: messages if tells_tools(messages) else with_tools(messages, tools)}


def refuse_meanings(holder: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
    """Raise RowError for the first key of `reasons` that has something in it."""
    if holder.keys().isdisjoint(reasons):
        return
    for name, reason in reasons.items():
        if name in holder and not is_blank(holder[name]) and holder[name] not in (*_SWITCHED_OFF, _HARMLESS.get(name)):
            raise RowError(reason)


def trained(turn: Mapping[str, Any], *, is_answer: bool) -> bool:
    """Whether a turn or a row is trained on as far as its own keys say so; an assistant's turn is where they are silent.

    Raises:
        RowError: `unknown_weight`: a weight other than 0 and 1, or two that disagree; `trained_prompt`: the turn of another
            speaker is to be trained on, which no trainer here does.
    """
    if turn.keys().isdisjoint(WEIGHTS):
        return is_answer
    found = set()
    for name in WEIGHTS:
        if name in turn and (turn[name] is False or not is_blank(turn[name])):
            try:
                found.add(flag(turn[name]))
            except RowError:
                raise RowError("unknown_weight") from None
    if len(found) > 1:
        raise RowError("unknown_weight")
    given = found.pop() if found else None
    if given and not is_answer:
        raise RowError("trained_prompt")
    return is_answer and given is not False


def unread_keys(row: Mapping[str, Any], columns: Iterable[str]) -> set[str]:
    """Keys of turns that no format reads, as `column[].key`, among some columns of a row; those of a tree's `replies` are read by their own names."""
    return {
        f"{name}[].{key}"
        for name in columns
        if name != "replies" and isinstance(row.get(name), list)
        for turn in row[name]
        if isinstance(turn, dict) and not turn.keys() <= TURN_KEYS and ("role" in turn or "from" in turn)
        for key, value in turn.items()
        if key not in TURN_KEYS
        and not is_blank(value)
        and not (key == "name" and turn.get("role", turn.get("from")) in RESULT_ROLES)
    }
