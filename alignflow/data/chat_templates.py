"""Chat templates: those for tokenizers that bring none, how one writes a conversation, and what init fixes in a model's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from alignflow.data.errors import ModelError, TemplateRefusedError, cut
from alignflow.data.tool_forms import LEFT_OUT, Form, form_of, left_out, shaped
from alignflow.data.tools import is_structured, tools_of

Message = Mapping[str, Any]
Messages = Sequence[Message]

TEMPLATES: Mapping[str, str] = {
    "instruction": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
        "{% else %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "plain": (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "turns": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
}
"""Chat templates for tokenizers that bring none. `turns` and `chatml` need their control tokens in the vocabulary."""

RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "loop"})
"""Names that a template is given by whoever calls it, so that an argument of these names means nothing."""

_DATE = re.compile(
    r"""strftime_now\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>(?:(?!(?P=quote)).)*)(?P=quote)\s*\)"""
)


def write_conversation(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> str:
    """The text that the tokenizer's chat template writes for a conversation.

    Raises:
        TemplateRefusedError: the template refuses these turns, for example a system turn, or two turns of one role; or it leaves out
            tools, a call of one, or its result.
        ModelError: the tokenizer has no template.
    """
    if tokenizer.chat_template is None:
        raise ModelError(
            "the tokenizer has no chat template", where="chat_template", do="set model.chat_template to instruction"
        )
    has_more = is_structured(messages)
    if has_more and (missing := left_out(tokenizer, messages)):
        raise _refusal(messages, f"{LEFT_OUT[missing]} ({missing})")
    known = shaped(messages, form_of(tokenizer) if has_more else Form())
    try:
        text: str = tokenizer.apply_chat_template(
            known, tools=tools_of(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text
    except Exception as error:  # whatever a template raises
        raise _refusal(messages, str(error)) from error


def _refusal(messages: Messages, why: str) -> TemplateRefusedError:
    return TemplateRefusedError(
        f"the chat template cannot render these turns ({cut(', '.join(str(turn['role']) for turn in messages))}): {cut(why)}",
        where="chat_template",
        do="set model.chat_template to instruction, or to a Jinja file of your own",
    )


def change_template(tokenizer: Any, change: Any) -> None:
    """Set each of the tokenizer's templates (most have one, some have several by name) to what `change` makes of its text."""
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        tokenizer.chat_template = {name: change(text) for name, text in template.items()}
    elif template is not None:
        tokenizer.chat_template = change(template)


def with_arguments(template: str, arguments: Mapping[str, Any]) -> str:
    """The template with fixed values for some of its variables, such as `enable_thinking`: every program then writes the same text."""
    fixed = "".join(f"{{% set {name} = {_literal(value)} %}}" for name, value in sorted(arguments.items()))
    return (
        f"{fixed}{{{{ '' }}}}{template}" if fixed else template
    )  # the expression keeps a line break at the template's start


def with_date(template: str, now: datetime) -> str:
    """The template with `now` in place of today's date, so that it writes the same text tomorrow.

    Raises:
        ModelError: it asks for the date in a format that is computed, so that it cannot be replaced.
    """
    fixed = _DATE.sub(lambda found: _literal(now.strftime(found["format"])), template)
    if re.search(r"strftime_now\s*\(", fixed):
        raise ModelError(
            "the chat template writes today's date in a format that it computes, so its text would change from day to day",
            where="chat_template",
            do="set model.chat_template to a Jinja file that writes a fixed date",
        )
    return fixed


def asks_for_date(template: Any) -> bool:
    """Whether a template writes today's date."""
    return "strftime_now(" in json.dumps(template)


def _literal(value: Any) -> str:
    """A value as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + value.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(name))}: {_literal(item)}" for name, item in value.items()) + "}"
    return "[" + ", ".join(_literal(item) for item in value) + "]"
