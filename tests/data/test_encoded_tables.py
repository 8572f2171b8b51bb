"""A table is encoded once for all who use the same rows, tokenizer and template; whatever differs has a file of its own."""

import copy
import multiprocessing
import os
from dataclasses import replace

import pytest
from tiny_model import TEXT, make_checkpoint, make_run

from alignflow.data import encoded_tables as module
from alignflow.data.encoded_kinds import DEMONSTRATIONS, PREFERENCES
from alignflow.data.encoded_place import check_whole
from alignflow.data.encoded_tables import EncodedTable
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.records import assistant, user, write_table
from alignflow.data.rendering import encode_turn, encode_turns, load_tokenizer
from alignflow.data.seals import SealError

WORDS = TEXT.split()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(make_checkpoint(tmp_path_factory.mktemp("tiny")))


def demonstrations(count=5):
    return [
        {
            "id": f"d{i}",
            "source": "t",
            "messages": [*user(f"the {WORDS[i]}"), *assistant(f"{WORDS[i]} cat"), *user("and"), *assistant("dog " * i)],
        }
        for i in range(count)
    ]


def pairs(count=5):
    return [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": user(f"the {WORDS[i]}"),
            "chosen": [*assistant("cat"), *user("more"), *assistant("red " * (i + 1))],
            "rejected": assistant("no"),
            "chosen_ended": i % 2 == 0,
            "rejected_ended": None,
            "soft_label": 0.5 if i else None,
            "margin": None,
        }
        for i in range(count)
    ]


def table(rows, kind, path):
    write_table(rows, kind.name, path)
    return path


@pytest.fixture
def open_table(tmp_path, tokenizer):
    """Open the token ids of a table, each time as another stage of one work directory would."""

    def opened(path, kind, tokenizer=tokenizer):
        found = EncodedTable(path, kind, tokenizer, make_run(tmp_path / "run"))
        list(found.make())
        return found.open()

    return opened


@pytest.fixture
def encoded(monkeypatch):
    """The number of rows of each call that encodes."""
    calls = []
    for kind in (DEMONSTRATIONS, PREFERENCES):
        monkeypatch.setitem(
            globals(),
            kind.name.upper(),
            replace(kind, encode=lambda *given, kind=kind: calls.append(len(given[1])) or kind.encode(*given)),
        )
    return calls


def files(tmp_path):
    return sorted((tmp_path / "run" / "work" / "encoded").glob("*/*"))


def test_conversations_have_the_ids_of_rendering(tmp_path, tokenizer, open_table, monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    rows = demonstrations()
    found = open_table(table(rows, DEMONSTRATIONS, tmp_path / "train.parquet"), DEMONSTRATIONS)
    for index, row in enumerate(rows):
        (answer,), wanted = found.row(index), encode_turns(tokenizer, row["messages"])
        assert [*answer.prompt_ids, *answer.completion_ids] == wanted.ids
        assert [
            *[False] * len(answer.prompt_ids),
            *(answer.mask or [True] * len(answer.completion_ids)),
        ] == wanted.supervised
        assert answer.mask and answer.mask[0]  # two turns, with a user's between them


def test_pairs_have_the_ids_of_rendering_and_their_numbers(tmp_path, tokenizer, open_table):
    rows = pairs()
    found = open_table(table(rows, PREFERENCES, tmp_path / "train.parquet"), PREFERENCES)
    for index, row in enumerate(rows):
        for side, answer in zip(("chosen", "rejected"), found.row(index), strict=True):
            *before, last = row[side]
            wanted = encode_turn(
                tokenizer, [*row["prompt"], *before], last["content"], ended=row[f"{side}_ended"] is not False
            )
            assert (list(answer.prompt_ids), list(answer.completion_ids), answer.mask) == (
                wanted.prompt_ids,
                wanted.completion_ids,
                (),
            )
    assert str(found.values["soft_label"].tolist()) == "[nan, 0.5, 0.5, 0.5, 0.5]" and list(found.names) == [
        row["id"] for row in rows
    ]


def test_a_conversation_without_a_supervised_token_has_no_ids(tmp_path, open_table):
    unlearnt = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "no", "weight": 0}]
    rows = [
        {"id": "silent", "source": "t", "messages": user("the cat")},
        {"id": "unlearnt", "source": "t", "messages": unlearnt},
        *demonstrations(1),
    ]
    found = open_table(table(rows, DEMONSTRATIONS, tmp_path / "train.parquet"), DEMONSTRATIONS)
    assert found.supervised["completion"][:2].tolist() == [0, 0] and found.lengths("completion")[:2].tolist() == [0, 0]
    assert found.supervised["completion"][2] > 0


def test_a_table_without_rows_has_a_file_without_rows(tmp_path, open_table):
    found = open_table(table([], PREFERENCES, tmp_path / "train.parquet"), PREFERENCES)
    assert len(found) == 0 and found.lengths("chosen").tolist() == [] and len(found.values["margin"]) == 0


def test_the_same_rows_are_encoded_once(tmp_path, open_table, encoded):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    first = open_table(path, DEMONSTRATIONS).row(3)
    (tmp_path / "other").mkdir()
    copied = tmp_path / "other" / "named_otherwise.parquet"
    copied.write_bytes(path.read_bytes())
    assert open_table(copied, DEMONSTRATIONS).row(3) == first and encoded == [5]
    assert len(files(tmp_path)) == 1


def test_other_rows_another_template_and_another_token_have_files_of_their_own(
    tmp_path, tokenizer, open_table, encoded
):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    open_table(path, DEMONSTRATIONS)
    open_table(table(demonstrations(4), DEMONSTRATIONS, tmp_path / "fewer.parquet"), DEMONSTRATIONS)
    template = copy.deepcopy(tokenizer)
    template.chat_template += "{{ '' }}"
    open_table(path, DEMONSTRATIONS, template)
    added = copy.deepcopy(tokenizer)
    added.add_tokens(["<added>"])
    open_table(path, DEMONSTRATIONS, added)
    assert encoded == [5, 4, 5, 5] and len(files(tmp_path)) == 4


def test_another_version_of_rendering_encodes_again(tmp_path, open_table, encoded, monkeypatch):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    open_table(path, DEMONSTRATIONS)
    monkeypatch.setattr(
        module, "PARTS", {**module.PARTS, "rendering": replace(module.PARTS["rendering"], version="later")}
    )
    open_table(path, DEMONSTRATIONS)
    assert encoded == [5, 5] and len(files(tmp_path)) == 2


def test_a_call_of_the_tokenizer_changes_nothing(tmp_path, tokenizer, open_table, encoded):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    own = copy.deepcopy(tokenizer)
    open_table(path, DEMONSTRATIONS, own)
    own(["the cat", "the"], truncation=True, max_length=1, padding=own.pad_token is not None)
    open_table(path, DEMONSTRATIONS, own)
    assert encoded == [5]


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_damaged_file_is_dropped_said_and_made_again(tmp_path, tokenizer, open_table, encoded, place):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    wanted = open_table(path, DEMONSTRATIONS).row(3)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    content = bytearray(whole)
    content[int(place * len(content)) if place > 0 else place] ^= 1
    file.write_bytes(content)
    with pytest.raises(SealError):
        check_whole(file)
    run = make_run(tmp_path / "run")
    again = EncodedTable(path, DEMONSTRATIONS, tokenizer, run)
    list(again.make())
    assert again.open().row(3) == wanted and encoded == [5, 5] and file.read_bytes() == whole
    assert run.notes == ["the token ids of train.parquet were damaged on disk and were dropped: they are made again"]


def test_a_killed_process_leaves_nothing_that_counts_and_what_it_left_goes(tmp_path, tokenizer, open_table, encoded):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    killed = EncodedTable(path, DEMONSTRATIONS, tokenizer, make_run(tmp_path / "run"))
    steps = killed.make()
    next(steps)
    (left,) = files(tmp_path)
    kept = left.with_name(left.name.replace(f"-{os.getpid()}-", "-999999999-"))
    kept.write_bytes(left.read_bytes())
    steps.close()
    assert files(tmp_path) == [kept]
    assert len(open_table(path, DEMONSTRATIONS)) == 5 and len(files(tmp_path)) == 1 and kept not in files(tmp_path)


def test_a_row_that_the_template_refuses_is_told_as_by_rendering_and_leaves_no_file(tmp_path, tokenizer, open_table):
    refusing = copy.deepcopy(tokenizer)
    refusing.chat_template = (
        "{% if messages[0]['content'] == 'the dog' %}{{ raise_exception('no dogs') }}{% endif %}"
        + tokenizer.chat_template
    )
    rows = [*demonstrations(2), {"id": "dog", "source": "t", "messages": [*user("the dog"), *assistant("cat")]}]
    with pytest.raises(TemplateRefusedError, match="no dogs"):
        open_table(table(rows, DEMONSTRATIONS, tmp_path / "train.parquet"), DEMONSTRATIONS, refusing)
    assert files(tmp_path) == []


def test_a_process_that_finds_no_file_makes_one(tmp_path, tokenizer):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    assert len(EncodedTable(path, DEMONSTRATIONS, tokenizer, make_run(tmp_path / "run")).open()) == 5


def _make(path, tokenizer, root, gate):
    gate.wait()
    found = EncodedTable(path, DEMONSTRATIONS, tokenizer, make_run(root))
    list(found.make())
    assert len(found.open()) == 200


def test_two_processes_that_make_it_at_once_end_with_one_whole_file(tmp_path, tokenizer):
    path = table(
        [{**row, "id": f"{row['id']}-{n}"} for n in range(40) for row in demonstrations()],
        DEMONSTRATIONS,
        tmp_path / "train.parquet",
    )
    fork = multiprocessing.get_context("fork")
    gate = fork.Barrier(2)
    processes = [fork.Process(target=_make, args=(path, tokenizer, tmp_path / "run", gate)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    (file,) = files(tmp_path)
    check_whole(file)


def test_a_file_that_another_process_may_have_mapped_is_not_replaced(tmp_path, tokenizer):
    path = table(demonstrations(), DEMONSTRATIONS, tmp_path / "train.parquet")
    slow = EncodedTable(path, DEMONSTRATIONS, tokenizer, make_run(tmp_path / "run"))
    steps = slow.make()
    next(steps)
    fast = EncodedTable(path, DEMONSTRATIONS, tokenizer, make_run(tmp_path / "run"))
    (slow_file,) = files(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.os, "getpid", lambda: os.getppid())  # another process's
        patch.setattr(module, "remove_abandoned", lambda *_: None)
        list(fast.make())
    (first,) = set(files(tmp_path)) - {slow_file}
    inode = first.stat().st_ino
    assert list(steps) == [] and files(tmp_path) == [first] and first.stat().st_ino == inode
