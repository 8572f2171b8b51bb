"""What became of each column, found by changing it."""

from hypothesis import given
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.data.column_uses import column_uses

WORDS = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=30).filter(str.strip)


def uses(form, kind, *rows, unused=()):
    parse = catalogue.FORMATS[form].resolve()
    return column_uses(rows, lambda row: parse(row, kind), unused)


@given(WORDS, WORDS)
def test_the_texts_themselves_do_not_matter_equal_ones_included(question, answer):
    for output in (answer, question):
        found = uses("alpaca", "demonstrations", {"instruction": question, "input": "", "output": output})
        assert found.became == {"instruction": ["messages: user"], "output": ["messages: assistant"]}
        assert (found.empty, found.unused, found.decides) == (["input"], [], [])


def test_a_column_and_a_key_of_a_turn_that_change_nothing_are_not_used():
    turns = [{"role": "user", "content": "Why?", "name": "x"}, {"role": "assistant", "content": "So."}]
    found = uses("messages", "demonstrations", {"messages": turns, "picture": ["0.jpg"]})
    assert found.became == {"messages": ["messages: user", "messages: assistant"]}
    assert found.unused == ["picture", "messages[].name"]


def test_keys_inside_a_column_that_is_not_used_are_not_listed():
    found = uses("alpaca", "demonstrations", {"instruction": "a", "output": "b", "meta": [{"by": "x"}]})
    assert found.unused == ["meta"]


def test_a_text_that_must_be_the_same_in_two_columns_comes_from_both():
    row = {"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}
    found = uses("hh_rlhf", "preferences", row)
    assert found.became == {"chosen": ["chosen", "prompt: user"], "rejected": ["rejected", "prompt: user"]}


def test_a_passage_that_is_divided_becomes_both_parts():
    assert uses("text", "demonstrations", {"text": "One. Two."}).became == {
        "text": ["messages: user", "messages: assistant"]
    }


def test_a_label_and_a_figure_become_the_columns_that_hold_them():
    assert uses("trl", "unpaired", {"prompt": "a", "completion": "b", "label": "True"}).became["label"] == ["label"]
    pair = {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 4, "score_rejected": 2.5}
    found = uses("trl", "preferences", pair)
    assert found.became["score_chosen"] == ["score_chosen"] and found.became["score_rejected"] == ["score_rejected"]


def test_figures_in_a_list_become_the_figures_of_the_pair_and_checks_become_the_instructions():
    row = {"prompt": "a", "completions": ["b", "c", "d"], "scores": [1, 2, 7.5]}
    assert uses("trl", "preferences", row).became["scores"] == ["score_chosen", "score_rejected"]
    row = {"prompt": "a", "instruction_id_list": ["length"], "kwargs": [{"words": 3}]}
    found = uses("trl", "prompts", row)
    assert found.became["kwargs"] == found.became["instruction_id_list"] == ["instructions"]


def test_a_column_that_only_decides_which_answer_is_the_best_is_read():
    row = {"prompt": "a", "responses": ["b", "c"], "scores": [1, 2]}
    found = uses("comparison", "demonstrations", row)
    assert found.decides == ["scores"] and found.became["responses"] == ["messages: assistant"]


def test_all_rows_that_can_be_used_are_looked_at_and_the_columns_of_the_others_are_seen():
    rows = [
        {"instruction": "a"},
        {"instruction": "b", "output": "c"},
        {"instruction": "d", "input": "e", "output": "f", "odd": 1},
    ]
    found = uses("alpaca", "demonstrations", *rows)
    assert found.seen == ["instruction", "output", "input", "odd"]
    assert found.became["input"] == ["messages: user"] and found.unused == ["odd"]
    assert uses("alpaca", "demonstrations", rows[0]).became == {} and uses(
        "alpaca", "demonstrations", rows[0]
    ).seen == ["instruction"]


def test_what_is_known_of_later_rows_is_added_and_what_is_seen_to_be_used_is_not_overruled():
    found = uses("alpaca", "demonstrations", {"instruction": "a", "output": "b"}, unused=["late", "output"])
    assert found.unused == ["late"] and "output" in found.became


def test_a_row_is_left_as_it_was():
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "weight": 1}
    before = repr(row)
    uses("messages", "demonstrations", row)
    assert repr(row) == before


def test_what_a_turn_has_beside_its_text_is_a_place_of_its_own():
    def parse(row):
        turn = {"role": "assistant", "content": None, "tool_calls": row["calls"]}
        return [{"messages": [{"role": "user", "content": row["ask"]}, turn], "tools": row["tools"]}]

    found = column_uses([{"ask": "a", "calls": [{"name": "f"}], "tools": [{"name": "f"}]}], parse)
    assert found.became == {"ask": ["messages: user"], "calls": ["messages: assistant tool_calls"], "tools": ["tools"]}
