"""What a chat template does with conversations of each kind: refused where it cannot be trained right, said where a person should know."""

from __future__ import annotations

from typing import Any

from alignflow.data.chat_templates import write_conversation
from alignflow.data.errors import ModelError, TemplateRefusedError
from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_turn, encode_turns
from alignflow.data.template_shapes import ROLES, shape_of
from alignflow.data.template_turns import end_text, end_token, follows
from alignflow.data.token_ids import controls_of
from alignflow.data.tool_forms import OTHER, left_out
from alignflow.data.tools import is_structured
from alignflow.data.written import shared

ASKED, ANSWERED, THOUGHT = "What is it?", "It is a test.", "I think so."
INSTRUCTION = "set model.chat_template to instruction, or to a Jinja file of your own"


def check_template(tokenizer: Any, where: str) -> list[str]:
    """One line for everything that a template does beyond writing each turn as it is.

    Raises:
        ModelError: the template cannot be trained right: an answer has no header or no end, or a text becomes a control token.
    """
    _refuse_no_header(tokenizer, where)
    if not end_text(tokenizer):
        raise ModelError(
            "the chat template does not end an assistant's turn with a control token", where=where, do=INSTRUCTION
        )
    _refuse_control_tokens(tokenizer, where)
    return [line for look in (_end, _opening, _turns, _system, _thinking, _blanks) for line in look(tokenizer)]


def _refuse_no_header(tokenizer: Any, where: str) -> None:
    without, prompt = (write_conversation(tokenizer, user(ASKED), flag) for flag in (False, True))
    whole = write_conversation(tokenizer, [*user(ASKED), *assistant(ANSWERED)], False)
    if without != prompt:
        return
    header = whole[shared(without, whole) :].partition(ANSWERED)[0]
    if header.strip():
        raise ModelError(
            f"the chat template ignores add_generation_prompt: it writes {header!r} before an answer, and a model that answers would not see it",
            where=where,
            do="add {% if add_generation_prompt %} with that header at the template's end, or " + INSTRUCTION,
        )


def _refuse_control_tokens(tokenizer: Any, where: str) -> None:
    controls = controls_of(tokenizer)

    def count(text: str) -> int:
        turn = encode_turn(tokenizer, user(text), text, ended=True)
        return sum(token in controls.ids for token in [*turn.prompt_ids, *turn.completion_ids])

    for token in tokenizer.all_special_tokens:
        if count(f"a {token} b") != count("a b"):
            raise ModelError(
                f"a text with {token!r} in it becomes a control token",
                where=where,
                do="give the tokenizer as tokenizer.json",
            )


def _end(tokenizer: Any) -> list[str]:
    if end_token(tokenizer) == tokenizer.eos_token_id:
        return []
    return [
        f"an answer ends with {end_text(tokenizer)!r}, not with EOS ({tokenizer.eos_token!r}): it is learnt, and generation stops at both"
    ]


def _opening(tokenizer: Any) -> list[str]:
    prompt = write_conversation(tokenizer, user(ASKED), True)
    whole = write_conversation(tokenizer, [*user(ASKED), *assistant(ANSWERED)], False)
    if whole.startswith(prompt):
        between = whole[len(prompt) :].partition(ANSWERED)[0]
        return [f"an answer begins with {between!r}, which is learnt with it"] if between.strip() else []
    tail = prompt[len(write_conversation(tokenizer, user(ASKED), False)) :]
    return [
        f"the generation prompt {tail!r} is not how the template begins an answer: SFT and pairs learn the turn as the template writes it; "
        "model.chat_template_kwargs may turn that off, for example {enable_thinking: false}"
    ]


def _turns(tokenizer: Any) -> list[str]:
    roles = ("user", "assistant", "user", "assistant")
    if not follows(tokenizer, roles):
        return ["it refuses, or leaves out, a second turn: rows with several turns are dropped"]
    first = write_conversation(tokenizer, [*user(ASKED), *assistant(ANSWERED)], False)
    both = write_conversation(
        tokenizer, [*user(ASKED), *assistant(ANSWERED), *user(ASKED), *assistant(ANSWERED)], False
    )
    end = first.rfind(ANSWERED) + len(ANSWERED)
    if not both.startswith(first[:end]):
        return ["it writes a turn otherwise when others follow it"]
    last, earlier = (controls_of(tokenizer).any.search(text, end) for text in (first, both))
    if last and (earlier is None or ASKED in both[end : earlier.start()]):
        return [
            f"it ends an answer with {last.group()!r}, and one that others follow with nothing: its end is not learnt"
        ]
    if last and earlier and last.group() != earlier.group():
        return [f"it ends an answer with {last.group()!r}, and one that others follow with {earlier.group()!r}"]
    return []


def _system(tokenizer: Any) -> list[str]:
    if follows(tokenizer, ("system", "user", "assistant")):
        return []
    return [
        "it takes no system turn: rows with one are dropped, or put before the first user turn by data.system: merge"
    ]


def _thinking(tokenizer: Any) -> list[str]:
    answer = assistant(f"<think>\n{THOUGHT}\n</think>\n\n{ANSWERED}")
    last = write_conversation(tokenizer, [*user(ASKED), *answer], False)
    if THOUGHT not in last:
        return ["it leaves the thinking of every answer out"]
    if not follows(tokenizer, ("user", "assistant", "user", "assistant")):
        return []
    earlier = write_conversation(tokenizer, [*user(ASKED), *answer, *user(ASKED), *assistant(ANSWERED)], False)
    return [] if THOUGHT in earlier else ["it leaves the thinking of earlier answers out"]


def _blanks(tokenizer: Any) -> list[str]:
    text = write_conversation(tokenizer, [*user(f"  {ASKED} \n"), *assistant(f" {ANSWERED}\n ")], False)
    return [] if f"  {ASKED} \n" in text and f" {ANSWERED}\n " in text else ["it trims the blanks around a text"]


def refused(tokenizer: Any, messages: Any) -> bool:
    """Whether the template refuses a conversation, or leaves a turn of it out."""
    return bool(refusal(tokenizer, messages))


def refusal(tokenizer: Any, messages: Any) -> str:
    """Why the template cannot write a conversation, as a reason of tool_forms.LEFT_OUT; empty where it can."""
    are_texts = all(
        message.keys() == {"role", "content"} and message["role"] in ROLES and isinstance(message["content"], str)
        for message in messages
    )
    if are_texts and shape_of(tokenizer, tuple(message["role"] for message in messages), False) is not None:
        return ""  # it writes every text, whatever it says
    if reason := left_out(tokenizer, messages):
        return reason
    try:
        if is_structured(messages) and any(message["role"] == "assistant" for message in messages):
            encode_turns(tokenizer, messages)  # which finds the assistant's turns, or refuses
        elif not is_structured(messages) and not follows(
            tokenizer, tuple(str(message["role"]) for message in messages)
        ):
            return OTHER
        write_conversation(tokenizer, messages, False)
    except TemplateRefusedError:
        return OTHER
    return ""
