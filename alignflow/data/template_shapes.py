"""What a chat template writes around the texts of a conversation, for templates whose writing does not depend on what the texts say.

Most templates put each text between fixed ones, as it is or without the blanks around it. Then a conversation need not be rendered: for one
sequence of roles the fixed texts are found once. Whether a template is of this kind is read off its syntax tree: each text of a
message may be written or joined to other texts, and nothing may be decided by it. A template with anything else in it is not of this kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.template_memory import remembered

ROLES = frozenset({"system", "user", "assistant"})
"""Those of messages that a shape is looked for."""
_BLANK, _FIRST, _LAST = "\u2003", "\ue0f0", "\ue0f1"
_MARKED = re.compile(f"({_BLANK}?){_FIRST}([0-9]+){_LAST}({_BLANK}?)")
"""A mark in the place of a text: the blanks at its ends are gone where the template trims it."""


@dataclass(frozen=True)
class Shape:
    """What a template writes for conversations of one sequence of roles.

    Attributes:
        texts: Before, between and after the texts of the messages [messages + 1].
        trimmed: Whether a message's text is written without the blanks around it [messages].
    """

    texts: tuple[str, ...]
    trimmed: tuple[bool, ...]

    def contents(self, contents: Sequence[str]) -> Sequence[str]:
        """The texts of the messages as they are written."""
        if True not in self.trimmed:
            return contents
        return [text.strip() if trim else text for text, trim in zip(contents, self.trimmed, strict=True)]

    def written(self, contents: Sequence[str]) -> str:
        """What the template writes for messages with these texts [messages]."""
        parts = [*self.texts, *self.texts[1:]]
        parts[::2], parts[1::2] = self.texts, self.contents(contents)
        return "".join(parts)


def shape_of(tokenizer: Any, roles: tuple[str, ...], add_generation_prompt: bool) -> Shape | None:
    """The shape for messages of such roles that have a text and nothing else.

    None where the template is not known to write them without a look at the texts, refuses them, or does not write each text once and in order.
    """
    memory = remembered(tokenizer)
    if memory.is_blind is None:
        memory.is_blind = isinstance(memory.template, str) and is_blind_to_texts(memory.template)
    if not memory.is_blind:
        return None
    key = roles, add_generation_prompt
    if key not in memory.shapes:
        memory.shapes[key] = _look_for_shape(tokenizer, roles, add_generation_prompt)
    shape: Shape | None = memory.shapes[key]
    return shape


def _look_for_shape(tokenizer: Any, roles: tuple[str, ...], add_generation_prompt: bool) -> Shape | None:
    messages = [
        {"role": role, "content": f"{_BLANK}{_FIRST}{place}{_LAST}{_BLANK}"} for place, role in enumerate(roles)
    ]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except Exception:  # noqa: BLE001 - whatever a template raises: whoever asks renders the conversation, and is told
        return None
    texts, blanks, places, ends = _MARKED.split(text)[::4], *(_MARKED.split(text)[start::4] for start in (1, 2, 3))
    in_order = places == [str(place) for place in range(len(roles))] and blanks == ends
    if not in_order or any(character in piece for piece in texts for character in (_BLANK, _FIRST, _LAST)):
        return None
    return Shape(tuple(texts), tuple(not blank for blank in blanks))


def is_blind_to_texts(template: str) -> bool:
    """Whether it is sure that what a template writes around the messages' texts, and whether it writes them, does not depend on them."""
    from jinja2 import Environment, TemplateError

    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        names: dict[str, str] = {"messages": _TURNS}
        for _ in range(_PASSES):
            known = dict(names)
            _Reading(names).body(tree.body)
            if known == names:
                return True
    except (_UnknownError, TemplateError, RecursionError):
        pass
    return False


class _UnknownError(Exception):
    """Something in a template of which it is not known whether it depends on a text."""


_PASSES = 8
_FREE, _CONTENT, _TEXT, _TURN, _TURNS = "free", "content", "text", "turn", "turns"
"""Kinds of values: without any text of a message in it; a message's text; such a text joined to others; a message; a list of messages."""
_TEXTS = frozenset({_FREE, _CONTENT, _TEXT})
_SAME_FOR_ALL_TEXTS = frozenset(
    {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean"}
)
"""Tests whose result is the same for every text."""
_FILTERS = frozenset(
    {
        "trim",
        "upper",
        "lower",
        "capitalize",
        "title",
        "length",
        "count",
        "default",
        "d",
        "int",
        "string",
        "tojson",
        "join",
        "replace",
    }
)
_FUNCTIONS = frozenset({"raise_exception", "namespace", "range"})
_OF_LOOP = frozenset({"first", "last", "index", "index0", "revindex", "revindex0", "length", "depth", "depth0"})
_OF_DICT = frozenset(dir(dict))


class _Reading:
    """One reading of a template's syntax tree; raises _UnknownError.

    Args:
        names: Kinds of the template's variables, to which those are added that it sets.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def body(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            kind = type(node).__name__
            if kind == "Output":
                self._allow(node.nodes, _TEXTS)
            elif kind == "If":
                self._condition(node.test)
                self.body([*node.body, *node.elif_, *node.else_])
            elif kind == "For":
                self._loop(node)
            elif kind == "Assign":
                self._assign(node)
            elif kind not in ("Break", "Continue"):
                raise _UnknownError(kind)

    def _loop(self, node: Any) -> None:
        over, targets = self._kind(node.iter), getattr(node.target, "items", [node.target])
        if over not in (_TURNS, _FREE) or node.recursive or (over == _TURNS and type(node.target).__name__ != "Name"):
            raise _UnknownError("For")
        for target in targets:
            self._bind(
                getattr(target, "name", "loop"), _TURN if over == _TURNS else _FREE
            )  # names inside of names are not known
        if node.test is not None:
            self._condition(node.test)
        self.body([*node.body, *node.else_])

    def _assign(self, node: Any) -> None:
        if type(node.target).__name__ == "Name":
            self._bind(node.target.name, self._kind(node.node))
        elif type(node.target).__name__ == "NSRef":
            self._allow([node.node], {_FREE})
        else:
            raise _UnknownError("Assign")

    def _bind(self, name: str, kind: str) -> None:
        if name in ("loop", *_FUNCTIONS):
            raise _UnknownError(name)
        self._names[name] = _either(self._names.get(name, kind), kind)

    def _allow(self, nodes: Iterable[Any], kinds: Iterable[str]) -> str:
        """The kind of all of some values together; each must be of one of `kinds`."""
        found = _FREE
        for node in nodes:
            kind = self._kind(node)
            if kind not in kinds:
                raise _UnknownError(kind)
            found = _either(found, kind)
        return found

    def _condition(self, node: Any) -> None:
        """A value of which nothing counts but whether it is true: a message always is, a list of messages by their number."""
        kind = type(node).__name__
        if kind in ("And", "Or"):
            self._condition(node.left)
            self._condition(node.right)
        elif kind == "Not":
            self._condition(node.node)
        else:
            self._allow_one(node, (_FREE, _TURN, _TURNS))

    def _kind(self, node: Any) -> str:
        read = getattr(self, f"_{type(node).__name__.lower()}", None)
        if read is None or type(node).__name__ not in _EXPRESSIONS:
            raise _UnknownError(type(node).__name__)
        return str(read(node))

    def _const(self, node: Any) -> str:
        return _FREE

    _templatedata = _const

    def _name(self, node: Any) -> str:
        if node.name in ("loop", "self", "super", "caller", "varargs", "kwargs", "lipsum", "cycler", "joiner", "dict"):
            raise _UnknownError(node.name)
        return self._names.get(node.name, _FREE)

    def _getattr(self, node: Any) -> str:
        return self._part(node.node, node.attr)

    def _getitem(self, node: Any) -> str:
        kind = type(node.arg).__name__
        if kind == "Slice":
            self._allow([part for part in (node.arg.start, node.arg.stop, node.arg.step) if part is not None], {_FREE})
            return self._allow_one(node.node, (_FREE, _TURNS))
        if kind == "Const" and isinstance(node.arg.value, str):
            return self._part(node.node, node.arg.value)
        self._allow([node.arg], {_FREE})
        return _TURN if self._allow_one(node.node, (_FREE, _TURNS)) == _TURNS else _FREE

    def _allow_one(self, node: Any, kinds: Iterable[str]) -> str:
        kind = self._kind(node)
        if kind not in kinds:
            raise _UnknownError(kind)
        return kind

    def _part(self, node: Any, name: str) -> str:
        """The kind of a field of a value."""
        if type(node).__name__ == "Name" and node.name == "loop":
            if name in _OF_LOOP:  # the others give the messages before and after
                return _FREE
            raise _UnknownError(name)
        if self._allow_one(node, (_FREE, _TURN)) == _FREE:
            return _FREE
        if name in _OF_DICT:
            raise _UnknownError(name)
        return _CONTENT if name == "content" else _FREE

    def _call(self, node: Any) -> str:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise _UnknownError("Call")
        called, given = node.node, [*node.args, *(keyword.value for keyword in node.kwargs)]
        is_method = type(called).__name__ == "Getattr"
        if (
            is_method
            and called.attr == "get"
            and self._kind(called.node) == _TURN
            and given
            and isinstance(getattr(given[0], "value", None), str)
        ):
            if given[0].value == "content":
                return _either(_CONTENT, self._allow(given[1:], _TEXTS))
            return self._allow(given, {_FREE})
        if not (is_method or (type(called).__name__ == "Name" and called.name in _FUNCTIONS)):
            raise _UnknownError("Call")
        return self._allow([*([called] if is_method else []), *given], {_FREE})

    def _filter(self, node: Any) -> str:
        if node.name not in _FILTERS or node.dyn_args is not None or node.dyn_kwargs is not None or node.node is None:
            raise _UnknownError("Filter")
        given = [*node.args, *(keyword.value for keyword in node.kwargs)]
        self._allow(given, {_FREE})
        kind = self._kind(node.node)
        if (kind == _CONTENT and node.name == "trim" and not given) or kind == _FREE:
            return kind
        if kind == _TURNS and node.name in ("length", "count"):
            return _FREE
        raise _UnknownError("Filter")

    def _test(self, node: Any) -> str:
        self._allow(node.args or (), {_FREE})
        if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
            raise _UnknownError("Test")
        kind = self._kind(node.node)
        if kind == _FREE or (kind != _TEXT and node.name in _SAME_FOR_ALL_TEXTS):
            return _FREE
        raise _UnknownError("Test")

    def _compare(self, node: Any) -> str:
        if len(node.ops) == 1 and node.ops[0].op in ("in", "notin") and self._kind(node.ops[0].expr) == _TURN:
            return self._allow([node.expr], {_FREE})  # whether a message has a key
        return self._allow([node.expr, *(operand.expr for operand in node.ops)], {_FREE})

    def _condexpr(self, node: Any) -> str:
        self._condition(node.test)
        chosen = self._kind(node.expr1)
        return chosen if node.expr2 is None else _either(chosen, self._kind(node.expr2))

    def _not(self, node: Any) -> str:
        self._condition(node)
        return _FREE

    def _and(self, node: Any) -> str:
        try:
            return self._allow([node.left, node.right], {_FREE})
        except (
            _UnknownError
        ):  # `messages and messages[0].role == ...` is as good as a condition where its left side is no text
            self._condition(node)
            return self._allow([node.right], {_FREE})

    def _or(self, node: Any) -> str:
        return self._allow([node.left, node.right], {_FREE})

    def _add(self, node: Any) -> str:
        found = self._allow([node.left, node.right], _TEXTS)
        return found if found == _FREE else _TEXT

    def _concat(self, node: Any) -> str:
        found = self._allow(node.nodes, _TEXTS)
        return found if found == _FREE else _TEXT

    def _sub(self, node: Any) -> str:
        return self._allow([node.left, node.right], {_FREE})

    _mod = _mul = _floordiv = _div = _sub

    def _neg(self, node: Any) -> str:
        return self._allow([node.node], {_FREE})

    def _list(self, node: Any) -> str:
        return self._allow(node.items, {_FREE})

    _tuple = _list


_EXPRESSIONS = frozenset(
    {
        "Const",
        "TemplateData",
        "Name",
        "Getattr",
        "Getitem",
        "Call",
        "Filter",
        "Test",
        "Compare",
        "CondExpr",
        "Not",
        "And",
        "Or",
        "Add",
        "Concat",
        "Sub",
        "Mod",
        "Mul",
        "FloorDiv",
        "Div",
        "Neg",
        "List",
        "Tuple",
    }
)


def _either(one: str, other: str) -> str:
    """The kind of what may be of one kind or another."""
    if one == other:
        return one
    if {one, other} <= _TEXTS:
        return _TEXT
    raise _UnknownError(f"{one} or {other}")
