"""Traces of what a prepared text is beside text: a place for an image, turns written as JSON, the end of a turn. Such rows are dropped for it."""

from __future__ import annotations

import re

from alignflow.data.sources.base import RowError

_MEDIA = re.compile(
    r"(?i:\A\s*<(?:image|video|audio)>|<(?:image|video|audio)>\s*\Z)"
    r"|<image_placeholder>|<image_soft_token>|<start_of_image>|<ImageHere>|<img>[^<>]+</img>|<image_\d+>"
    r"|<\|?(?:image_pad|vision_start|audio_pad|video_pad|image_\d+|audio_\d+)\|?>|<\|(?:image|video|audio)\|>"
)
"""Where an image, a video or a sound goes: `<image>` before or behind a text (within one it may be markup), and the tokens of models that see."""
_TURN = re.compile(r"""\A\s*\[?\s*\{\s*["'](?:role|from|content|value)["']\s*:""")
_ROLE = re.compile(r"""["'](?:role|from)["']\s*:\s*["'](?:user|assistant|system|human|gpt|tool)["']""")
_END = re.compile(
    r"(?:<\|(?:im_end|end|endoftext|end_of_text|eot_id|eom_id|eot|eos|end_of_turn|return|END_OF_TURN_TOKEN)\|>"
    r"|<end_of_turn>|<end_of_utterance>|<eos>|<\uff5cend\u2581of\u2581sentence\uff5c>|</s>)\s*\Z"
)
_BORDER = re.compile(
    r"\A\s*(?:<s>(?!.*</s>)|<bos>|<\|begin_of_text\|>|<\|startoftext\|>)"
    r"|<\|im_end\|>\s*<\|im_start\|>|<\|eot_id\|>\s*<\|start_header_id\|>|<end_of_turn>\s*<start_of_turn>",
    re.DOTALL,
)
"""What a template writes before a text, or between two turns."""
_THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>(.*))?\Z", re.DOTALL)


def refuse_traces(role: str, text: str) -> None:
    """Check the text of a turn.

    Raises:
        RowError: `images` or `audio`: a user's text has a place for what is not there; `turns_as_text`: the text is a turn or a list of turns,
            as JSON or as Python writes it; `rendered_template`: an answer ends with the end of a turn, or has the border between
            two turns in it, which the chat template writes itself.
    """
    if "<" in text:
        if role != "assistant" and (found := _MEDIA.search(text)):
            raise RowError("audio" if "audio" in found.group().lower() else "images")
        if (
            role == "assistant"
            and (end := _END.search(text))
            and not (end.group().strip() == "</s>" and "<s>" in text[: end.start()])
        ):
            raise RowError("rendered_template")
        if role == "assistant" and _BORDER.search(text):
            raise RowError("rendered_template")
    if _TURN.match(text) and _ROLE.search(text) and text.rstrip()[-1:] in ("}", "]"):
        raise RowError("turns_as_text")


def refuse_unfinished(text: str) -> None:
    """Check an answer that is to be learnt whole.

    Raises:
        RowError: `unfinished_answer`: it ends inside of its thinking; `empty`: nothing stands behind its thinking.
    """
    found = _THOUGHT.match(text) if "<think>" in text[:50] else None
    if found is not None and found[2] is None:
        raise RowError("unfinished_answer")
    if found is not None and not found[2].strip():
        raise RowError("empty")
