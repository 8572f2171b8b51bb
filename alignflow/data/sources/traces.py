"""Traces of what a prepared text is beside text: a place for an image, turns written as JSON, the end of a turn. Such rows are dropped for it."""

from __future__ import annotations

import re

from alignflow.data.sources.base import RowError

_MEDIA = re.compile(
    r"\A\s*<(image|video|audio)>|<(image|video|audio)>\s*\Z|<image_placeholder>|<\|?(?:image_pad|vision_start|image_1|audio_pad|video_pad)\|?>"
)
"""Where an image, a video or a sound goes: `<image>` before or behind a text (within one it may be markup), and the tokens of models that see."""
_TURN = re.compile(r"""\A\s*\[?\s*\{\s*["'](?:role|from|content|value)["']\s*:""")
_ROLE = re.compile(r"""["'](?:role|from)["']\s*:\s*["'](?:user|assistant|system|human|gpt|tool)["']""")
_END = re.compile(r"(?:<\|im_end\|>|<\|end\|>|<\|endoftext\|>|<\|eot_id\|>|<end_of_turn>|<eos>|</s>)\s*\Z")


def refuse_traces(role: str, text: str) -> None:
    """Check the text of a turn.

    Raises:
        RowError: `images` or `audio`: a user's text has a place for what is not there; `turns_as_text`: the text is a turn or a list of turns,
            as JSON or as Python writes it; `rendered_template`: an answer ends with the end of a turn, which the chat
            template writes itself.
    """
    if "<" in text:
        if role != "assistant" and (found := _MEDIA.search(text)):
            raise RowError("audio" if "audio" in found.group() else "images")
        if (
            role == "assistant"
            and (end := _END.search(text))
            and not (end.group().strip() == "</s>" and "<s>" in text[: end.start()])
        ):
            raise RowError("rendered_template")
    if _TURN.match(text) and _ROLE.search(text) and text.rstrip()[-1:] in ("}", "]"):
        raise RowError("turns_as_text")
