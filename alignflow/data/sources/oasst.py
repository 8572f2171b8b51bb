"""OpenAssistant: trees of messages with ranks, one tree in a row or one message in a row; only assistants' replies become answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alignflow.data.sources.base import Messages, Row, RowError, flag, is_blank, number
from alignflow.data.sources.comparison import best_and_worst
from alignflow.data.sources.conversations import demonstration, placed
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.transcripts import ROLES

COLUMNS = ("message_id", "parent_id", "message_tree_id", "text", "role", "rank", "deleted", "review_result")
MOST_TURNS = 64
Node = Mapping[str, Any]


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError. One tree gives a pair or a ranking for each turn that has several ranked replies."""
    for name in COLUMNS:  # of a tree whose messages were rows of their own: these are not looked at by name
        row.get(name)
    return parse_with(PARSERS, row, kind)


def is_tree(row: Row) -> bool:
    """Whether a row is a whole tree: a root with replies, by itself or in `prompt`."""
    return isinstance(_root_of(row).get("replies"), list)


def is_message(row: Row) -> bool:
    """Whether a row is one message of a tree whose other messages are other rows."""
    return {"message_id", "parent_id", "text", "role"} <= row.keys() and not isinstance(row.get("replies"), list)


def gathered(rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Numbered rows with the messages of each tree in one row, where its root stood; a message outside of a tree stays by itself."""
    nodes: dict[Any, dict[str, Any]] = {}
    first: dict[Any, int] = {}
    for at, row in rows:
        if is_message(row) and _is_id(row["message_id"]) and row["message_id"] not in nodes:
            nodes[row["message_id"]], first[row["message_id"]] = {**row, "replies": []}, at
    trees = []
    for node in nodes.values():
        parent = nodes.get(node["parent_id"]) if _is_id(node["parent_id"]) else None
        if parent is not None:
            parent["replies"].append(node)
        elif is_blank(node["parent_id"]):
            trees.append(node)
    placed_ids, queue = set(), list(trees)
    while queue:
        node = queue.pop()
        placed_ids.add(node["message_id"])
        queue += node["replies"]
    found: list[tuple[int, Row]] = []
    for at, row in rows:
        name = row["message_id"] if is_message(row) and _is_id(row["message_id"]) else None
        if name not in placed_ids or first[name] != at:  # a message whose id another has already stays by itself
            found.append((at, row))
        elif is_blank(row["parent_id"]):
            found.append((at, nodes[name]))
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _root_of(row: Row) -> Node:
    inner = row.get("prompt")
    return inner if isinstance(inner, Mapping) else row


def _root(row: Row) -> Node:
    root = _root_of(row)
    if not isinstance(root.get("replies"), list):
        raise RowError("no_parent" if not is_blank(root.get("parent_id")) else "no_answer")
    if not _is_usable(root, "user"):
        raise RowError("no_prompt")
    return root


def _is_usable(node: Any, role: str) -> bool:
    """Whether a message can stand in a conversation: of that role, with text, neither deleted nor refused by its reviewers.

    Raises:
        RowError: `not_a_boolean`: what says so is neither yes nor no.
    """
    if not isinstance(node, Mapping) or ROLES.get(str(node.get("role")).lower()) != role:
        return False
    has_text = isinstance(node.get("text"), str) and bool(node["text"].strip())
    return has_text and not _said(node, "deleted") and _said(node, "review_result") is not False


def _said(node: Node, name: str) -> bool | None:
    """Yes or no, which a table of text writes as a word; None where the message has neither."""
    value = node.get(name)
    return value if isinstance(value, bool) else None if is_blank(value) else flag(value)


def _replies(node: Node, role: str) -> list[Node]:
    """The usable replies, those with a rank first, best first."""
    found = [reply for reply in node.get("replies") or () if _is_usable(reply, role)]
    return sorted(found, key=lambda reply: (_rank(reply) is None, _rank(reply) or 0.0))


def _rank(node: Node) -> float | None:
    return number(node.get("rank"))


def _turn(node: Node, role: str) -> dict[str, str]:
    return {"role": role, "content": node["text"]}


def _questions(root: Node) -> Iterator[tuple[Messages, list[Node]]]:
    """Every conversation that ends with a user's turn, and the replies to it."""
    queue: list[tuple[Messages, Node]] = [([_turn(root, "user")], root)]
    while queue:
        context, node = queue.pop(0)
        replies = _replies(node, "assistant")
        yield context, replies
        if len(context) < MOST_TURNS:
            queue += [
                ([*context, _turn(reply, "assistant"), _turn(further, "user")], further)
                for reply in replies
                for further in _replies(reply, "user")
            ]


def _best_path(row: Row) -> Messages:
    """The conversation of the best replies: from each, the first further question that has an answer."""
    question: Node | None = _root(row)
    messages: Messages = []
    while question is not None and len(messages) < MOST_TURNS and (answers := _replies(question, "assistant")):
        messages += [_turn(question, "user"), _turn(answers[0], "assistant")]
        question = next((further for further in _replies(answers[0], "user") if _replies(further, "assistant")), None)
    if not messages:
        raise RowError("no_answer")
    return messages


def _ranked(row: Row) -> list[tuple[Messages, list[str], list[float]]]:
    """Prompt, answers and scores (the rank, negated) of every turn with at least two ranked replies."""
    found = []
    for context, replies in _questions(_root(row)):
        ranked = [(reply["text"], 0.0 - rank) for reply in replies if (rank := _rank(reply)) is not None]
        if len(ranked) > 1:
            found.append((placed(row, context), [text for text, _ in ranked], [score for _, score in ranked]))
    if not found:
        raise RowError("not_several_answers")
    return found


def _pairs(row: Row) -> list[Row]:
    """A pair of each turn; one whose replies have equal ranks or texts gives none, and is the row's reason where no turn gives any."""
    pairs, reasons = [], []
    for found in _ranked(row):
        try:
            pairs.append(best_and_worst(*found))
        except RowError as error:
            reasons.append(error)
    if not pairs:
        raise reasons[0]
    return pairs


PARSERS = {
    "demonstrations": lambda row: [demonstration(placed(row, _best_path(row)))],
    "preferences": _pairs,
    "rankings": lambda row: [
        dict(zip(("prompt", "completions", "scores"), found, strict=True)) for found in _ranked(row)
    ],
    "prompts": lambda row: [prompt_row(placed(row, [_turn(_root(row), "user")]), row)],
}
