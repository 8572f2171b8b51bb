"""Answers in groups: what a reader makes of a table, what it leaves out, and which answers of other prompts stand beside them."""

import math

import pytest
import torch

from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, user, write_table
from alignflow.data.run import Runtime
from alignflow.models.losses.base import Role
from alignflow.models.losses.lists import make_lists
from alignflow.models.policy import load_policy
from alignflow.models.trainers.offline_rows import (
    read_demonstrations,
    read_halves,
    read_paired,
    read_rankings,
    read_scored,
    read_two_of_list,
    read_unpaired,
)
from alignflow.models.trainers.sft import read_rows


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime()).tokenizer


def answers_of(rows, row, tokenizer):
    places, owners = rows.places([row])
    assert owners.tolist() == [0] * len(places)
    return [
        tokenizer.decode(rows.answers[int(place)].completion_ids, skip_special_tokens=True).strip() for place in places
    ]


@pytest.fixture
def unpaired(tmp_path):
    rows = [
        {
            "id": f"u{i}",
            "source": "t",
            "prompt": user(f"the {word}"),
            "completion": assistant(f"{word} mat"),
            "label": i % 2 == 0,
            "ended": i != 1,
        }
        for i, word in enumerate(["cat", "dog", "bird", "house"])
    ]
    write_table(rows, "unpaired", tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def test_each_labelled_answer_is_a_group_with_its_label(unpaired, tokenizer, new_run):
    rows = read_unpaired(unpaired, tokenizer, 64, new_run(), "align")
    assert len(rows) == 4 and list(rows.ids) == ["u0", "u1", "u2", "u3"]
    assert rows.label.tolist() == [1, 0, 1, 0] and rows.ended.tolist() == [True, False, True, True]
    assert [answers_of(rows, row, tokenizer) for row in range(4)] == [
        ["cat mat"],
        ["dog mat"],
        ["bird mat"],
        ["house mat"],
    ]


def test_a_cut_answer_does_not_learn_to_end(unpaired, tokenizer, new_run):
    rows = read_unpaired(unpaired, tokenizer, 64, new_run(), "align")
    ends = [rows.answers[place].completion_ids[-1] == tokenizer.eos_token_id for place in range(4)]
    assert ends == [True, False, True, True]


def test_only_wanted_answers_count_for_the_nll(unpaired, tokenizer, new_run):
    rows = read_unpaired(unpaired, tokenizer, 64, new_run(), "align")
    assert [tokens > 0 for tokens in rows.wanted_tokens()] == [True, False, True, False]


def test_an_answer_of_another_prompt_stands_beside_each(unpaired, tokenizer, new_run):
    rows = read_unpaired(unpaired, tokenizer, 64, new_run(), "align").with_mismatched(64)
    for place in range(4):
        row, own = rows.mismatched_row(place), rows.answers[place]
        other = int(rows.mismatched[place])
        assert row.prompt_ids == own.prompt_ids and row.completion_ids == rows.answers[other].completion_ids
        assert rows.mismatched_length(place) == len(row)
        assert rows.answers[other].prompt_ids != own.prompt_ids


def test_answers_to_one_prompt_are_no_mismatch(tmp_path, tokenizer, new_run):
    rows = [
        {"id": f"u{i}", "source": "t", "prompt": user("one"), "completion": assistant(f"{i}"), "label": True}
        for i in range(3)
    ]
    write_table(rows, "unpaired", tmp_path / "train.parquet")
    read = read_unpaired(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align").with_mismatched(64)
    assert read.mismatched.tolist() == [-1, -1, -1] and read.mismatched_row(0) is None


def test_a_mismatch_that_does_not_fit_is_passed_over(unpaired, tokenizer, new_run):
    rows = read_unpaired(unpaired, tokenizer, 64, new_run(), "align")
    longest = int(rows.answer_lengths.min())
    for place in range(4):
        row = rows.with_mismatched(longest).mismatched_row(place)
        assert row is None or len(row) <= longest


def test_pairs_become_two_labelled_answers_each(preferences, tokenizer, new_run):
    pairs = read_paired(preferences / "train.parquet", tokenizer, 64, new_run(), "align")
    rows = read_halves(preferences / "train.parquet", tokenizer, 64, new_run(), "align")
    assert len(rows) == 2 * len(pairs) and rows.label.sum() == len(pairs)
    assert answers_of(rows, 0, tokenizer) + answers_of(rows, 1, tokenizer) == answers_of(pairs, 0, tokenizer)
    assert (rows.ids[0], rows.ids[1]) == (f"{pairs.ids[0]}/chosen", f"{pairs.ids[0]}/rejected")
    assert sum(rows.lengths) == int(rows.answer_lengths.sum())


def test_answers_of_other_prompts_are_of_both_classes(preferences, tokenizer, new_run):
    """The next answer after either half of a pair is the next pair's chosen one: z0 would be that of good answers alone."""
    rows = read_halves(preferences / "train.parquet", tokenizer, 64, new_run(), "align").with_mismatched(64)
    assert 0.3 < rows.label[rows.mismatched].mean() < 0.7 and len(set(rows.mismatched.tolist())) > 60


def test_chosen_answers_come_first_whatever_the_rows(preferences, tokenizer, new_run):
    pairs = read_paired(preferences / "train.parquet", tokenizer, 64, new_run(), "align")
    places, owners = pairs.places([3, 1])
    assert owners.tolist() == [0, 1, 0, 1] and pairs.role[places].tolist() == [Role.CHOSEN] * 2 + [Role.REJECTED] * 2


@pytest.fixture
def rankings(tmp_path):
    rows = [
        {
            "id": "r0",
            "source": "t",
            "prompt": user("the cat"),
            "completions": ["a", "b", "c"],
            "scores": [0.1, 0.9, 0.5],
            "ended": [True, True, False],
        },
        {"id": "r1", "source": "t", "prompt": user("the dog"), "completions": ["a", "b"], "scores": [2.0, 2.0]},
        {
            "id": "r2",
            "source": "t",
            "prompt": user("the bird"),
            "completions": ["a", "b " * 100, "c"],
            "scores": [1.0, 5.0, 0.0],
        },
        {
            "id": "r3",
            "source": "t",
            "prompt": user("the hill"),
            "completions": ["a", "b", "c"],
            "scores": [1.0, None, 3.0],
        },
    ]
    write_table(rows, "rankings", tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def test_lists_lose_what_cannot_be_ranked_and_it_is_said(rankings, tokenizer, new_run, capsys):
    rows = read_rankings(rankings, tokenizer, 64, new_run(), "align")
    assert list(rows.ids) == ["r0", "r2", "r3"]
    found = [sorted(answers_of(rows, row, tokenizer)) for row in range(3)]
    assert found == [["a", "b", "c"], ["a", "c"], ["a", "c"]]
    said = capsys.readouterr().out
    assert "1 answers of train are over max_length 64" in said and "1 answers of train have no score" in said
    assert "1 lists of train have fewer than two answers of different scores" in said


def test_the_best_of_a_list_is_the_chosen_one(rankings, tokenizer, new_run):
    rows = read_rankings(rankings, tokenizer, 64, new_run(), "align")
    for row in range(3):
        places, _ = rows.places([row])
        assert sorted(rows.role[places].tolist()) == [Role.CHOSEN] + [Role.OTHER] * (len(places) - 1)
        assert rows.score[places][rows.role[places] == Role.CHOSEN] == rows.score[places].max()


def test_scores_that_differ_by_rounding_make_no_pair(tmp_path, tokenizer, new_run):
    """Losses have fp32: the accuracy of such a list would be NaN, and with it that of all lists."""
    row = {
        "id": "r",
        "source": "t",
        "prompt": user("the cat"),
        "completions": ["a", "b"],
        "scores": [0.6, 0.1 + 0.2 + 0.3],
    }
    assert row["scores"][0] != row["scores"][1]
    write_table([row], "rankings", tmp_path / "train.parquet")
    assert len(read_rankings(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align")) == 0


def test_answers_that_contradict_each_other_are_left_out_of_a_list_and_said(tmp_path, tokenizer, new_run, capsys):
    row = {"source": "t", "prompt": user("the cat"), "ended": None}
    texts = ["cat mat", "dog mat", "dog mat", "bird mat"]
    equal, cut = {"scores": [1.0, 2.0, 2.0, 3.0]}, {"scores": [1.0, 2.0, 0.5, 3.0], "ended": [True, False, True, True]}
    rows = [{**row, "scores": [1.0, 2.0, 0.5, 3.0]}, {**row, **equal}, {**row, **cut}]
    rows = [{**each, "id": f"r{number}", "completions": texts} for number, each in enumerate(rows)]
    rows.append({**row, "id": "r3", "completions": ["cat mat", "cat mat"], "scores": [1.0, 0.0]})
    write_table(rows, "rankings", tmp_path / "train.parquet")
    read = read_rankings(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align")
    assert [sorted(answers_of(read, number, tokenizer)) for number in range(len(read))] == [
        ["bird mat", "cat mat"],
        ["bird mat", "cat mat", "dog mat", "dog mat"],
        ["bird mat", "cat mat", "dog mat", "dog mat"],
    ], "equal scores contradict nothing, and an answer that was cut is not the same one"
    said = capsys.readouterr().out
    assert "4 answers of train have the tokens of another one with another score" in said
    assert "1 lists of train have fewer than two answers of different scores" in said


def test_a_prompt_counts_once_in_the_length_of_a_list(rankings, tokenizer, new_run):
    rows = read_rankings(rankings, tokenizer, 64, new_run(), "align")
    places, _ = rows.places([0])
    own = [rows.answers[int(place)] for place in places]
    assert rows.lengths[0] == len(own[0].prompt_ids) + sum(len(answer.completion_ids) for answer in own)


def test_the_order_within_a_list_is_not_that_of_the_file(tmp_path, tokenizer, new_run):
    """LiPO's ranks follow it where all scores of the policy are equal; in a file the best answer often comes first."""
    rows = [
        {
            "id": f"r{i}",
            "source": "t",
            "prompt": user("the cat"),
            "completions": ["a", "b", "c", "d"],
            "scores": [4.0, 3.0, 2.0, 1.0],
        }
        for i in range(20)
    ]
    write_table(rows, "rankings", tmp_path / "train.parquet")
    read = read_rankings(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align")
    places, owners = read.places(range(20))
    labels = make_lists(owners, read.score[places]).labels  # as the losses see them
    assert len({tuple(row) for row in labels.tolist()}) > 5 and len(set(labels[:, 0].tolist())) > 1


def test_pairs_are_lists_of_two(preferences, tokenizer, new_run):
    rows = read_two_of_list(preferences / "train.parquet", tokenizer, 64, new_run(), "align")
    places, _ = rows.places([0])
    assert rows.score[places].tolist() == [1.0, 0.0] and rows.role[places].tolist() == [Role.CHOSEN, Role.OTHER]
    assert math.isnan(rows.soft_label[0])


def test_scored_answers_are_rows_of_their_own_and_ties_are_kept(rankings, tokenizer, new_run, capsys):
    rows = read_scored(rankings, tokenizer, 64, new_run(), "align")
    assert list(rows.ids) == ["r0/0", "r0/1", "r0/2", "r1/0", "r1/1", "r2/0", "r2/2", "r3/0", "r3/2"]
    assert rows.score.tolist() == pytest.approx([0.1, 0.9, 0.5, 2.0, 2.0, 1.0, 0.0, 1.0, 3.0]) and rows.ended.tolist()[
        :3
    ] == [True, True, False]
    assert [answers_of(rows, row, tokenizer) for row in range(3)] == [["a"], ["b"], ["c"]]
    assert not rows.any_wanted and sum(rows.wanted_tokens()) == 0 and list(rows.lengths) == rows.answer_lengths.tolist()
    said = capsys.readouterr().out
    assert (
        "1 answers of train are over max_length 64" in said
        and "1 answers of train have no score" in said
        and "lists" not in said
    )


def test_demonstrations_are_conversations_whose_assistant_turns_count(demonstrations, tokenizer, new_run):
    ids, answers = read_rows(demonstrations / "train.parquet", tokenizer, 64, new_run())
    rows = read_demonstrations(demonstrations / "train.parquet", tokenizer, 64, new_run(), "align")
    assert list(rows.ids) == list(ids) and list(rows.answers) == list(answers) and rows.wanted.all() and rows.any_wanted
    assert rows.answer_tokens.tolist() == [row.supervised for row in answers] and list(rows.lengths) == [
        len(row) for row in answers
    ]
    assert list(rows.wanted_tokens()) == rows.answer_tokens.tolist()


def test_demonstrations_that_do_not_fit_are_told_by_the_stage_that_reads_them(demonstrations, tokenizer, new_run):
    with pytest.raises(TrainingError, match="align.max_length"):
        read_demonstrations(demonstrations / "train.parquet", tokenizer, 4, new_run(), "align")


@pytest.mark.parametrize("reader", [read_unpaired, read_rankings])
def test_an_answer_without_a_token_is_refused(reader, tmp_path, tokenizer, new_run):
    empty = {"id": "x", "source": "t", "prompt": user("the cat")}
    if reader is read_unpaired:
        write_table(
            [{**empty, "completion": assistant(""), "label": True, "ended": False}],
            "unpaired",
            tmp_path / "train.parquet",
        )
    else:
        row = {**empty, "completions": ["", "a"], "scores": [0.0, 1.0], "ended": [False, True]}
        write_table([row], "rankings", tmp_path / "train.parquet")
    with pytest.raises(TrainingError, match="the answer has no tokens"):
        reader(tmp_path / "train.parquet", tokenizer, 64, new_run(), "align")


def test_an_empty_table_gives_no_rows(tmp_path, tokenizer, new_run):
    for kind, reader in {"unpaired": read_unpaired, "rankings": read_rankings, "preferences": read_paired}.items():
        write_table([], kind, tmp_path / f"{kind}.parquet")
        rows = reader(tmp_path / f"{kind}.parquet", tokenizer, 64, new_run(), "align")
        assert len(rows) == 0 and len(rows.wanted_tokens()) == 0
        assert torch.equal(rows.role, torch.zeros(0, dtype=torch.int64)) or len(rows.role) == 0
