"""Negatives and their samples: which answer of a list is which, and what is left out."""

import pytest

from alignflow.data.records import assistant, user, write_table
from alignflow.data.run import Runtime
from alignflow.models.losses.base import Role
from alignflow.models.policy import load_policy
from alignflow.models.trainers.negative_rows import read_lowest_as_negative, read_rejected_as_negative
from alignflow.models.trainers.reference_scores import answer_names


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime()).tokenizer


@pytest.fixture
def of_lists(tmp_path, tokenizer, new_run):
    def read(*lists):
        rows = [
            {
                "id": f"r{i}",
                "source": "t",
                "prompt": user("the cat"),
                "completions": list(texts),
                "scores": list(scores),
            }
            for i, (texts, scores) in enumerate(lists)
        ]
        write_table(rows, "rankings", tmp_path / "train.parquet")
        return read_lowest_as_negative(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align")

    return read


def roles_of(rows, row, tokenizer):
    """Negative, and samples in order."""
    places, _ = rows.places([row])
    texts = [
        tokenizer.decode(rows.answers[int(place)].completion_ids, skip_special_tokens=True).strip() for place in places
    ]
    assert rows.role[places].tolist() == [Role.REJECTED] + [Role.OTHER] * (len(places) - 1)
    assert rows.wanted[places].tolist() == [False] + [True] * (len(places) - 1)
    return texts[0], sorted(texts[1:])


def test_the_lowest_of_a_list_is_the_negative_and_the_others_are_samples(of_lists, tokenizer):
    rows = of_lists((["a", "b", "c"], [0.5, -1.0, 2.0]), (["d", "e"], [1.0, 0.0]))
    assert roles_of(rows, 0, tokenizer) == ("b", ["a", "c"]) and roles_of(rows, 1, tokenizer) == ("e", ["d"])
    assert list(rows.ids) == ["r0", "r1"] and answer_names(rows) == ["r0"] * 3 + ["r1"] * 2


def test_a_prompt_counts_once_in_the_length_of_a_group(of_lists):
    rows = of_lists((["a a a", "b", "c c"], [0.5, -1.0, 2.0]))
    own = [rows.answers[place] for place in range(3)]
    assert rows.lengths[0] == len(own[0].prompt_ids) + sum(len(row.completion_ids) for row in own)
    assert rows.answer_lengths.tolist() == [len(row) for row in own] and rows.wanted_tokens()[0] == sum(
        rows.answer_tokens[1:]
    )


def test_samples_that_are_the_negative_or_as_bad_are_left_out_and_counted(of_lists, tokenizer, capsys):
    rows = of_lists((["a", "a", "b"], [0.0, 1.0, 2.0]), (["a", "b", "c"], [0.0, 0.0, 1.0]), (["a", "a"], [0.0, 1.0]))
    assert list(rows.ids) == ["r0", "r1"] and len(rows.answers) == 4
    assert roles_of(rows, 0, tokenizer) == ("a", ["b"]) and roles_of(rows, 1, tokenizer)[1] == ["c"]
    said = capsys.readouterr().out
    assert "2 samples of train have the same tokens as their list's negative answer and were dropped" in said
    assert "1 samples of train have the lowest score of their list" in said
    assert "1 lists of train have no sample besides the negative answer and were dropped" in said


def test_nothing_is_said_where_nothing_is_left_out(of_lists, capsys):
    of_lists((["a", "b"], [0.0, 1.0]))
    assert "dropped" not in capsys.readouterr().out


def test_of_a_pair_the_chosen_answer_is_the_only_sample(tmp_path, tokenizer, new_run):
    row = {
        "id": "p0",
        "source": "t",
        "prompt": user("the cat"),
        "chosen": assistant("good"),
        "rejected": assistant("bad"),
    }
    write_table([{**row, "chosen_ended": True, "rejected_ended": False}], "preferences", tmp_path / "train.parquet")
    rows = read_rejected_as_negative(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align")
    assert roles_of(rows, 0, tokenizer) == ("bad", ["good"])
    places, _ = rows.places([0])
    assert rows.ended[places].tolist() == [False, True] and list(rows.ids) == ["p0"]


def test_an_empty_table_gives_no_rows(of_lists):
    rows = of_lists()
    assert len(rows) == 0 and len(rows.wanted_tokens()) == 0 and len(rows.role) == 0
