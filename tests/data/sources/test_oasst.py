"""Trees of messages: assistants' replies become answers, best rank first, and a prompter's text never does."""

import json
import random

import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.parsing import parse_sources
from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.oasst import gathered, parse


def node(text, role, *replies, **more):
    return {"text": text, "role": role, "replies": list(replies), **more}


TREE = node(
    "q",
    "prompter",
    node("worse", "assistant", rank=1),
    node(
        "best",
        "assistant",
        node("silent", "prompter"),
        node("more", "prompter", node("c", "assistant", rank=1), node("d", "assistant", rank=0)),
        rank=0,
    ),
    node("gone", "assistant", rank=2, deleted=True),
    node("spam", "assistant", rank=3, review_result=False),
)


def flat(tree, parent=None, ids=None):
    ids = ids if ids is not None else iter(range(100))
    name = f"m{next(ids)}"
    yield {"message_id": name, "parent_id": parent, **{key: value for key, value in tree.items() if key != "replies"}}
    for reply in tree["replies"]:
        yield from flat(reply, name, ids)


@pytest.mark.parametrize("row", [TREE, {"prompt": TREE, "message_tree_id": "t"}])
def test_the_rows_of_a_tree(row):
    assert parse(row, "demonstrations") == [
        {"messages": [*user("q"), *assistant("best"), *user("more"), *assistant("d")]}
    ]
    assert parse(row, "prompts") == [{"prompt": user("q"), "instructions": None}]
    pairs = [(pair["prompt"][-1]["content"], pair["chosen"], pair["rejected"]) for pair in parse(row, "preferences")]
    assert pairs == [("q", assistant("best"), assistant("worse")), ("more", assistant("d"), assistant("c"))]
    assert [(found["completions"], found["scores"]) for found in parse(row, "rankings")] == [
        (["best", "worse"], [0.0, -1.0]),
        (["d", "c"], [0.0, -1.0]),
    ]


def test_the_best_rank_is_the_score_0_and_not_minus_0():
    assert [str(pair["score_chosen"]) for pair in parse(TREE, "preferences")] == ["0.0", "0.0"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (node("q", "prompter"), "no_answer"),
        (node("q", "assistant", node("a", "assistant")), "no_prompt"),
        ({"message_id": "b", "parent_id": "a", "text": "a", "role": "assistant"}, "no_parent"),
        (node("q", "prompter", node("q2", "prompter")), "no_answer"),
    ],
)
def test_a_tree_without_an_answer_has_a_reason(row, reason):
    with pytest.raises(RowError) as error:
        parse(row, "demonstrations")
    assert error.value.reason == reason


def test_messages_in_rows_of_their_own_are_put_together_in_any_order(tmp_path):
    rows = list(flat(TREE))
    random.Random(0).shuffle(rows)
    (tmp_path / "m.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "message_id": "x", "parent_id": "lost"}])
    )
    kept = parse_sources([SourceConfig(path=str(tmp_path / "m.jsonl"))], "demonstrations", PrepareConfig())
    assert [row["messages"] for row in kept.rows] == [[*user("q"), *assistant("best"), *user("more"), *assistant("d")]]
    assert kept.formats == {"m.jsonl": "oasst"} and kept.dropped == {"no_parent": 1} and kept.unused == {"m.jsonl": []}


@pytest.mark.parametrize(("name", "nothing"), [(str, ""), (int, None), (str, float("nan"))])
def test_ids_may_be_numbers_and_a_root_may_have_nothing_for_a_parent(name, nothing):
    rows = [
        {"message_id": name(1), "parent_id": nothing, "text": "q", "role": "prompter"},
        {"message_id": name(2), "parent_id": name(1), "text": "a", "role": "assistant"},
    ]
    ((_, tree),) = gathered(list(enumerate(rows)))
    assert parse(tree, "demonstrations") == [{"messages": [*user("q"), *assistant("a")]}]


def test_messages_that_are_each_others_parents_stay_by_themselves():
    rows = [
        {"message_id": a, "parent_id": b, "text": "x", "role": "prompter"}
        for a, b in (("1", "2"), ("2", "1"), ("3", "3"))
    ]
    assert gathered(list(enumerate(rows))) == list(enumerate(rows))


def test_a_row_is_either_in_a_tree_or_by_itself():
    rows = list(flat(TREE))
    assert [at for at, _ in gathered(list(enumerate([*rows, rows[0]])))] == [0, len(rows)]


def test_what_a_table_of_text_writes_of_deleted_and_refused_messages_is_read(tmp_path):
    rows = [
        "m0,,q,prompter,,False,True",
        "m1,m0,a,assistant,1.0,False,",
        "m2,m0,b,assistant,0.0,False,True",
        "m3,m0,gone,assistant,2.0,True,True",
        "m4,m0,spam,assistant,3.0,False,False",
    ]
    (tmp_path / "m.csv").write_text(
        "message_id,parent_id,text,role,rank,deleted,review_result\n" + "\n".join(rows) + "\n"
    )
    kept = parse_sources([SourceConfig(path=str(tmp_path / "m.csv"))], "rankings", PrepareConfig())
    assert [(row["prompt"], row["completions"]) for row in kept.rows] == [(user("q"), ["b", "a"])]


def test_a_message_of_which_nobody_can_say_whether_it_is_deleted_drops_the_tree():
    with pytest.raises(RowError, match="not_a_boolean"):
        parse(node("q", "prompter", node("a", "assistant", deleted="perhaps")), "demonstrations")


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ([node("c", "assistant", rank=1), node("d", "assistant", rank=1)], "tie"),
        ([node("c", "assistant", rank=0), node("c", "assistant", rank=1)], "identical_pair"),
    ],
)
def test_a_question_whose_replies_cannot_be_told_apart_leaves_the_pairs_of_the_others(replies, why):
    tree = node(
        "q",
        "prompter",
        node("best", "assistant", node("more", "prompter", *replies), rank=0),
        node("worse", "assistant", rank=1),
    )
    assert [(pair["chosen"], pair["rejected"]) for pair in parse(tree, "preferences")] == [
        (assistant("best"), assistant("worse"))
    ]
    with pytest.raises(RowError, match=why):
        parse(node("q", "prompter", *replies), "preferences")


def test_messages_that_are_put_together_count_as_one_row_read(tmp_path):
    said = [
        ("1", None, "prompter", "q"),
        ("2", "1", "assistant", "a"),
        ("3", None, "prompter", "r"),
        ("4", "3", "assistant", "b"),
    ]
    rows = [
        {"message_id": name, "parent_id": parent, "role": role, "text": text, "rank": 0}
        for name, parent, role, text in said
    ]
    (tmp_path / "flat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = parse_sources([SourceConfig(path=str(tmp_path / "flat.jsonl"))], "demonstrations", PrepareConfig())
    assert (kept.read, len(kept.rows), sum(kept.dropped.values())) == (2, 2, 0)


def test_a_message_whose_id_another_has_already_stays_by_itself_and_is_counted(tmp_path):
    """The later one took the place of the first, and nothing was counted."""
    rows = list(flat(node("q", "prompter", node("a", "assistant", rank=0), node("b", "assistant", rank=1))))
    rows.append({**rows[2], "text": "another b", "rank": 2})
    numbered = gathered(list(enumerate(rows, 1)))
    assert [at for at, _ in numbered] == [1, 4]
    assert [reply["text"] for reply in numbered[0][1]["replies"]] == ["a", "b"]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    kept = parse_sources([SourceConfig(path=str(tmp_path / "rows.jsonl"))], "preferences", PrepareConfig())
    assert len(kept.rows) == 1 and kept.dropped == {"no_parent": 1}
