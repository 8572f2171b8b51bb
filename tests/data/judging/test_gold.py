"""Gold labels in the shapes of the known meta-evaluation sets; what is not understood is counted."""

import json

import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.judging.gold import read_gold


def write(tmp_path, rows):
    file = tmp_path / "gold.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(file))


def read(tmp_path, *rows, **known):
    return read_gold([write(tmp_path, rows)], **known)


TURN = {"role": "user", "content": "Why?"}
MT = {
    "model_a": "gpt-4",
    "model_b": "llama",
    "conversation_a": [TURN, {"role": "assistant", "content": "one"}],
    "conversation_b": [TURN, {"role": "assistant", "content": "two"}],
}


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"prompt": "Why?", "response_a": "one", "response_b": "two", "human_preference": "a"}, 1.0),
        ({"prompt": "Why?", "response_a": "one", "response_b": "two", "human_preference": "tie"}, 0.5),
        ({"input": "Why?", "output_1": "one", "output_2": "two", "label": 2}, 0.0),
        (
            {
                "instruction": "Why?",
                "input": "",
                "response1": "one",
                "response2": "two",
                "annotator1": 1,
                "annotator2": 1,
                "annotator3": 2,
            },
            1.0,
        ),
        ({**MT, "winner": "model_b"}, 0.0),
        ({**MT, "winner": "tie (bothbad)"}, 0.5),
        ({"prompt": [TURN], "response_a": "one", "response_b": "two", "preference": 1.0}, 1.0),
    ],
    ids=["ours", "tie", "LLMBar", "PandaLM", "MT-bench", "MT-bench, both bad", "messages"],
)
def test_shapes_of_known_sets(tmp_path, row, gold):
    (pair,) = read(tmp_path, row).pairs
    assert pair.gold == gold and pair.answers == ("one", "two") and pair.prompt[-1]["content"] == "Why?"


def test_votes_as_annotate_exports_them_are_gold(tmp_path):
    def row(*said):
        votes = [{"annotator": str(place), "preference": word} for place, word in enumerate(said)]
        return {"prompt": [TURN], "response_a": "one", "response_b": "two", "votes": votes}

    found = read(tmp_path, row("a"), row("b", "b", "a"), row("tie", "tie"), row("a", "b"), row("maybe"))
    assert [pair.gold for pair in found.pairs] == [1.0, 0.0, 0.5]
    assert found.pairs[0].answers == ("one", "two") and found.pairs[0].prompt == [TURN]
    assert found.dropped == {"annotators disagree": 1, "unknown verdict": 1}


def test_writers_of_the_answers_are_known_where_the_row_says(tmp_path):
    (pair,) = read(tmp_path, {**MT, "winner": "model_a"}).pairs
    assert pair.families == ("gpt-4", "llama")


def test_pairs_of_trl_are_shuffled_so_that_sides_tell_nothing(tmp_path):
    rows = [{"prompt": f"Why {number}?", "chosen": "good", "rejected": "bad"} for number in range(60)]
    pairs = read(tmp_path, *rows).pairs
    assert all(pair.answers[pair.gold == 0.0] == "good" for pair in pairs)
    assert 15 < sum(pair.gold for pair in pairs) < 45


def test_scores_put_answers_in_an_order_and_equal_ones_are_a_tie(tmp_path):
    found = read(tmp_path, {"prompt": "Why?", "completions": ["a", "b", "c"], "scores": [2, 1, 1]})
    assert sorted(
        pair.gold if "a" in pair.answers else "between" for pair in found.pairs if "a" not in pair.answers
    ) == ["between"]
    assert [pair.gold for pair in found.pairs if "a" not in pair.answers] == [0.5]
    assert all(pair.answers[pair.gold == 0.0] == "a" for pair in found.pairs if "a" in pair.answers)
    assert [answer[2:] for answer in found.answers] == [("a", 2.0), ("b", 1.0), ("c", 1.0)]


def test_single_answers_of_one_prompt_are_gathered(tmp_path):
    rows = [{"prompt": "Why?", "completion": text, "score": score} for text, score in (("a", 3), ("b", 1))]
    found = read(tmp_path, *rows, {"prompt": "How?", "completion": "c", "score": 2})
    assert len(found.pairs) == 1 and len(found.answers) == 3


def test_what_is_not_understood_is_counted_by_reason(tmp_path):
    good = {"prompt": "Why?", "response_a": "one", "response_b": "two", "human_preference": "b"}
    votes = {
        "annotator1": 0,
        "annotator2": 1,
        "annotator3": 2,
        "response1": "x",
        "response2": "y",
        "instruction": "Why?",
    }
    found = read(
        tmp_path,
        good,
        {**good, "human_preference": "perhaps"},
        {**good, "human_preference": None},
        votes,
        {"prompt": "x"},
    )
    assert found.read == 5 and dict(found.dropped) == {
        "gold label not understood": 1,
        "no gold label": 1,
        "annotators disagree": 1,
        "not two answers and no score": 1,
    }


def test_a_file_without_any_gold_is_refused_with_the_reasons(tmp_path):
    with pytest.raises(
        DataError, match=r"none of 1 rows has a gold label that is understood \(gold label not understood 1\)"
    ):
        read(tmp_path, {"prompt": "Why?", "response_a": "one", "response_b": "two", "human_preference": "maybe"})


def test_a_column_of_another_name_is_mapped(tmp_path):
    file = write(tmp_path, [{"q": "Why?", "chosen": "good", "rejected": "bad"}])
    assert read_gold([file.model_copy(update={"columns": {"prompt": "q"}})]).pairs[0].prompt[0]["content"] == "Why?"


def test_rows_are_chosen_by_hash_and_fewer_are_among_more(tmp_path):
    rows = [
        {"prompt": f"Why {n}?", "response_a": "one", "response_b": "two", "human_preference": "a"} for n in range(30)
    ]
    few, more = ({pair.row for pair in read(tmp_path, *rows, max_rows=count).pairs} for count in (5, 10))
    assert len(few) == 5 and len(more) == 10 and few < more


def test_conversations_that_differ_before_the_last_answer_are_left_out(tmp_path):
    second = {"role": "user", "content": "More?"}
    row = {**MT, "winner": "model_a"}
    row["conversation_a"] = [*MT["conversation_a"], second, {"role": "assistant", "content": "x"}]
    row["conversation_b"] = [*MT["conversation_b"], second, {"role": "assistant", "content": "y"}]
    found = read(tmp_path, {**MT, "winner": "model_a"}, row)
    assert len(found.pairs) == 1 and dict(found.dropped) == {"conversations differ before the last answer": 1}


def test_labels_of_zero_and_one_alone_are_refused(tmp_path):
    rows = [{"prompt": f"q{place}", "response_a": "x", "response_b": "y", "label": place % 2} for place in range(4)]
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="tie and first"):
        read_gold((SourceConfig(path=str(path)),))


def test_labels_of_zero_one_and_two_are_ties_first_and_second(tmp_path):
    rows = [{"prompt": f"q{place}", "response_a": "x", "response_b": "y", "label": place} for place in range(3)]
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [pair.gold for pair in read_gold((SourceConfig(path=str(path)),)).pairs] == [0.5, 1.0, 0.0]
