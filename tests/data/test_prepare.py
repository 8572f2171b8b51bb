"""Raw data in, clean tables out: no prompt on both sides, every dropped row counted, new data moves no row."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import small_tokenizer

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.near_duplicates import near_duplicates
from alignflow.data.prepare import prepare
from alignflow.data.records import is_held_out, prompt_digest, read_table, user
from alignflow.data.run import Run, Runtime


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def run_prepare(tmp_path, tokenizer):
    """Prepare some rows of demonstrations, or a path with them; returns the payload and the metrics, and keeps what the run said."""

    def run_it(rows, name="one", path=None, source=None, **fields):
        file = tmp_path / f"{name}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        places = {
            place: tmp_path / "runs" / (f"{name}-folder" if path else name) / place
            for place in ("out", "side", "work", "rows")
        }
        for place in places.values():
            place.mkdir(parents=True)
        run = Run(**places, runtime=Runtime())
        run_it.warnings = run.warnings
        config = PrepareConfig(demonstrations=(SourceConfig(path=str(path or file), **(source or {})),), **fields)
        return places["out"], prepare(config, tokenizer=tokenizer, run=run)

    return run_it


def rows(count, start=0):
    return [
        {"prompt": f"question number {index} about thing {index * 7}?", "completion": f"the answer is {index}"}
        for index in range(start, start + count)
    ]


def ids(payload, kind="demonstrations", side="train"):
    return [row["id"] for row in read_table(payload / kind / f"{side}.parquet")]


def statistics(payload, kind="demonstrations"):
    return json.loads((payload / "statistics.json").read_text())["tables"][kind]


def test_no_prompt_stands_on_both_sides(run_prepare):
    payload, _ = run_prepare(rows(120) + [{"prompt": "  QUESTION number 3 about thing 21?", "completion": "another"}])
    sides = [
        {prompt_digest(row["messages"][:-1]) for row in read_table(payload / "demonstrations" / f"{side}.parquet")}
        for side in ("train", "heldout")
    ]
    assert all(sides) and not sides[0] & sides[1]


def test_new_rows_move_no_old_one(run_prepare):
    before, after = run_prepare(rows(60))[0], run_prepare(rows(60) + rows(40, 60), name="two")[0]
    for side in ("train", "heldout"):
        assert set(ids(before, side=side)) <= set(ids(after, side=side))


def test_two_runs_write_the_same_bytes(run_prepare):
    first, second = run_prepare(rows(30))[0], run_prepare(rows(30), name="two")[0]
    names = payload_files(first)
    demonstrations = [name for name in names if name.endswith(".parquet")]
    tables = [
        [row["messages"] for row in read_table(payload / name)]
        for payload in (first, second)
        for name in demonstrations
        if "demonstrations" in name
    ]
    assert names == payload_files(second) and tables[: len(tables) // 2] == tables[len(tables) // 2 :]


def test_equal_input_gives_equal_digests(tmp_path, tokenizer):
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows(30)))
    digests = []
    for name in ("a", "b"):
        places = {place: tmp_path / name / place for place in ("out", "side", "work", "rows")}
        for place in places.values():
            place.mkdir(parents=True)
        prepare(
            PrepareConfig(demonstrations=(SourceConfig(path=str(source)),)),
            tokenizer=tokenizer,
            run=Run(**places, runtime=Runtime()),
        )
        digests.append({name: file_digest(places["out"] / name) for name in payload_files(places["out"])})
    assert digests[0] == digests[1]


def test_every_dropped_row_is_counted_under_one_reason(run_prepare):
    bad = [
        {"prompt": "p", "completion": ""},
        {"prompt": "p"},
        rows(1)[0],
        {"prompt": "long " * 400, "completion": "x"},
        {"prompt": "question number 0 about thing 0?", "completion": "the answer is 0 "},
        {"prompt": 3, "completion": "x"},
    ]
    payload, metrics = run_prepare(rows(40) + bad + ["not json\n"], near_duplicate_threshold=1.0)
    found = statistics(payload)
    assert found["dropped"] == {
        "duplicate": 2,
        "empty": 1,
        "missing_column": 1,
        "not_json": 1,
        "not_text": 0,
        "over_long": 1,
    } | {name: count for name, count in found["dropped"].items() if name in ("not_text", "malformed")}
    assert found["read"] == 47 == found["kept"] + sum(found["dropped"].values())
    assert metrics["demonstrations/kept"] == found["kept"] == 40


def test_near_duplicates_are_dropped(run_prepare):
    words = " ".join(f"w{index}" for index in range(60))
    payload, _ = run_prepare(
        rows(20) + [{"prompt": words, "completion": "same"}, {"prompt": words + " more", "completion": "same"}]
    )
    assert statistics(payload)["dropped"]["near_duplicate"] == 1


def test_evaluation_prompts_are_taken_out_of_training(run_prepare, tmp_path):
    evaluation = tmp_path / "evaluation.jsonl"
    evaluation.write_text(json.dumps({"prompt": "Question number 5 about  thing 35?"}) + "\n")
    payload, _ = run_prepare(rows(30), evaluation=(SourceConfig(path=str(evaluation)),), decontaminate_ngram=0)
    assert statistics(payload)["dropped"] == {"contaminated": 1}
    assert len(read_table(payload / "evaluation" / "prompts.parquet")) == 1


def test_without_given_ones_the_held_out_prompts_are_for_evaluation(run_prepare):
    payload, _ = run_prepare(rows(60))
    prompts = read_table(payload / "evaluation" / "prompts.parquet")
    assert prompts and all(is_held_out(row["prompt"], 0.1) for row in prompts)


def test_a_cap_and_a_weight_choose_by_hash(run_prepare, tmp_path, tokenizer):
    source = tmp_path / "capped.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows(80)))
    places = {place: tmp_path / "capped" / place for place in ("out", "side", "work", "rows")}
    for place in places.values():
        place.mkdir(parents=True)
    config = PrepareConfig(demonstrations=(SourceConfig(path=str(source), weight=0.5, max_rows=20),))
    prepare(config, tokenizer=tokenizer, run=Run(**places, runtime=Runtime()))
    found = statistics(places["out"])
    assert found["kept"] == 20 and 20 < 80 - found["dropped"]["over_weight"] < 60


def test_too_many_broken_lines_stop_the_run_and_are_listed(run_prepare):
    with pytest.raises(DataError, match=r"3 of 23 lines are broken \(line 21: not_json"):
        run_prepare(rows(20) + ["{\n", "{\n", "{\n"])


def test_control_tokens_in_text_are_counted_and_kept(run_prepare):
    payload, _ = run_prepare(rows(20) + [{"prompt": "what is <|end|> for?", "completion": "it ends"}])
    assert statistics(payload)["control_tokens_in_text"] == 1


def test_rows_of_the_wrong_kind_are_refused_with_the_reason(run_prepare):
    with pytest.raises(DataError, match="not one row can be used as demonstrations .missing_column"):
        run_prepare([{"prompt": "only a prompt"}] * 3)


def test_three_rendered_rows_are_kept_to_look_at(run_prepare):
    payload, _ = run_prepare(rows(20))
    samples = json.loads((payload / "samples.json").read_text())["demonstrations"]
    assert len(samples) == 3 and "<|assistant|>" in samples[0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab c", min_size=1, max_size=30), max_size=12))
def test_the_first_of_equal_texts_is_never_a_near_duplicate_of_a_later_one(texts):
    flags = near_duplicates(texts, 0.99)
    assert len(flags) == len(texts) and (not texts or not flags[0])
    seen = set()
    for text, flag in zip(texts, flags, strict=True):
        assert flag or text not in seen
        seen.add(text)


@given(st.text(max_size=40), st.floats(0.05, 0.5), st.floats(0.5, 0.9))
def test_a_larger_held_out_share_contains_the_smaller(text, small, large):
    assert not is_held_out(user(text), small) or is_held_out(user(text), large)


def test_a_text_that_is_too_long_by_its_bytes_is_dropped_before_it_is_looked_at_word_by_word(run_prepare, monkeypatch):
    """50 MB in one row took 13 GB: its words were compared with those of other rows, and it was tokenised."""
    seen = []
    monkeypatch.setattr("alignflow.data.measuring.normalise_text", lambda text: seen.append(len(text)) or text)
    long = {"prompt": "long?", "completion": "word " * 40_000}
    out, _ = run_prepare([*rows(40), long])
    found = json.loads((out / "statistics.json").read_text())["tables"]["demonstrations"]
    assert found["dropped"] == {"over_long": 1} and found["kept"] == 40 and max(seen) < 10_000


def test_of_many_dropped_rows_the_run_warns_with_an_example(run_prepare, capsys):
    payload, metrics = run_prepare(
        rows(30) + [{"prompt": f"long {number} " * 300, "completion": "x"} for number in range(10)]
    )
    assert "demonstrations: kept 30 of 40: 10 over_long\n" in capsys.readouterr().out
    assert (metrics["demonstrations/dropped"], metrics["demonstrations/dropped/over_long"]) == (10, 10)
    assert run_prepare.warnings[0].startswith(
        "demonstrations: kept 30 of 40: 10 over_long; an example of over_long: 'user: long 0 long 0"
    )
    assert len(run_prepare.warnings[0]) < 400 and statistics(payload)["examples"]["over_long"].startswith(
        "user: long 0"
    )


def test_rows_of_one_text_with_contradictory_labels_are_all_dropped(run_prepare, tmp_path):
    labelled = [{**row, "label": True} for row in rows(20)] + [
        {**rows(1)[0], "label": False},
        {**rows(2)[1], "label": True},
    ]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    payload, _ = run_prepare(
        rows(20), unpaired=(SourceConfig(path=str(tmp_path / "labelled.jsonl")),), near_duplicate_threshold=1.0
    )
    assert statistics(payload, "unpaired")["dropped"] == {"contradictory_labels": 2, "duplicate": 1}
    assert (
        statistics(payload, "unpaired")["kept"] == 19
        and "number 0" in statistics(payload, "unpaired")["examples"]["contradictory_labels"]
    )


@pytest.mark.parametrize(("label", "dropped"), [(False, {}), (True, {"near_duplicate": 1})])
def test_nearly_equal_rows_of_another_label_are_no_near_duplicates(run_prepare, tmp_path, label, dropped):
    """A long prompt with another short answer is nearly one text, and one of the two answers is good."""
    long = " ".join(f"word{number}" for number in range(80))
    labelled = [{**row, "label": True} for row in rows(20)]
    labelled += [
        {"prompt": long, "completion": "Yes.", "label": True},
        {"prompt": long, "completion": "No.", "label": label},
    ]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    payload, _ = run_prepare(
        rows(20),
        unpaired=(SourceConfig(path=str(tmp_path / "labelled.jsonl")),),
        max_prompt_length=2000,
        max_length=2000,
    )
    assert statistics(payload, "unpaired")["dropped"] == dropped


def test_rankings_of_the_same_answers_in_another_order_are_dropped_and_in_the_same_order_once(run_prepare, tmp_path):
    ranked = [
        {"prompt": f"Which one is it, number {number}?", "completions": ["this", f"that {number}"], "scores": [1, 2]}
        for number in range(20)
    ]
    others = [{**ranked[0], "scores": [2, 1]}, {**ranked[1], "scores": [1, 1]}, {**ranked[2], "scores": [0.5, 7]}]
    (tmp_path / "ranked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*ranked, *others]))
    payload, _ = run_prepare(
        rows(20), rankings=(SourceConfig(path=str(tmp_path / "ranked.jsonl")),), near_duplicate_threshold=1.0
    )
    assert statistics(payload, "rankings")["dropped"] == {"contradictory_labels": 4, "duplicate": 1}


def test_a_pair_that_stands_there_the_other_way_round_too_is_dropped_and_an_equal_one_once(run_prepare, tmp_path):
    pairs = [
        {"prompt": f"Which one is it, number {number}?", "chosen": "this", "rejected": f"that {number}"}
        for number in range(20)
    ]
    turned = {"prompt": "WHICH one is it, number 0?", "chosen": "that 0", "rejected": "This"}
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*pairs, turned, pairs[1]]))
    payload, _ = run_prepare(
        rows(20), preferences=(SourceConfig(path=str(tmp_path / "pairs.jsonl")),), near_duplicate_threshold=1.0
    )
    assert statistics(payload, "preferences")["dropped"] == {"contradictory_labels": 2, "duplicate": 1}


def test_a_ranking_whose_answers_stand_in_another_order_is_the_same_or_contradicts_by_its_scores(run_prepare, tmp_path):
    ranked = [
        {"prompt": f"Which one is it, number {number}?", "completions": ["this", f"that {number}"], "scores": [1, 2]}
        for number in range(20)
    ]
    same = {**ranked[0], "completions": ["that 0", "this"], "scores": [2, 1]}
    other = {**ranked[1], "completions": ["that 1", "this"], "scores": [1, 2]}
    (tmp_path / "ranked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*ranked, same, other]))
    payload, _ = run_prepare(
        rows(20), rankings=(SourceConfig(path=str(tmp_path / "ranked.jsonl")),), near_duplicate_threshold=1.0
    )
    assert statistics(payload, "rankings")["dropped"] == {"contradictory_labels": 2, "duplicate": 1}


def test_equal_conversations_of_which_different_turns_are_trained_on_are_all_dropped(run_prepare):
    def turns(number, **first):
        said = [{"role": "assistant", "content": f"{name} {number}"} for name in ("first", "second")]
        return {
            "messages": [
                {"role": "user", "content": f"hello {number}"},
                {**said[0], **first},
                {"role": "user", "content": f"more {number}"},
                said[1],
            ]
        }

    found = [turns(number, weight=0) for number in range(20)] + [turns(0), turns(1, weight=0), turns(2, weight=1)]
    payload, _ = run_prepare(found, near_duplicate_threshold=1.0)
    assert (
        statistics(payload)["dropped"] == {"contradictory_weights": 4, "duplicate": 1}
        and statistics(payload)["kept"] == 18
    )


def test_where_few_rows_are_dropped_it_is_said_and_no_warning(run_prepare, capsys):
    run_prepare(rows(38) + [{"prompt": "long " * 400, "completion": "x"}, {"prompt": "", "completion": "x"}])
    assert (
        "demonstrations: kept 38 of 40: 1 empty, 1 over_long\n" in capsys.readouterr().out
        and run_prepare.warnings == []
    )


@pytest.mark.parametrize("bad", [{"prompt": "long {0} " * 300, "completion": "x"}, {"prompt": "{0}", "completion": ""}])
def test_above_the_limit_the_stage_stops_with_the_reasons_and_the_limit_can_be_raised(run_prepare, bad):
    found = rows(20) + [{name: text.format(number) for name, text in bad.items()} for number in range(25)]
    with pytest.raises(
        DataError, match=r"too many rows are dropped, 56%: demonstrations: kept 20 of 45: 25 (over_long|empty)"
    ) as error:
        run_prepare(found)
    assert "data.max_dropped_fraction above 0.5" in str(error.value) and error.value.exit_status == 2
    assert statistics(run_prepare(found, name="two", max_dropped_fraction=0.6)[0])["kept"] == 20


def test_rows_that_are_equal_or_left_out_by_the_recipe_are_no_loss(run_prepare):
    payload, _ = run_prepare(rows(20) * 4)
    assert statistics(payload)["dropped"] == {"duplicate": 60} and run_prepare.warnings == []
    payload, _ = run_prepare(rows(80), name="two", source={"max_rows": 10})
    assert statistics(payload)["dropped"] == {"over_max_rows": 70} and run_prepare.warnings == []


def test_rows_that_were_never_cleaned_do_not_hide_or_swell_the_loss(run_prepare):
    """Of 100 rows 30 are empty, and of the others 60 are left out: three tenths are lost, and not three quarters of what is left."""
    bad = [{"prompt": f"p{number}", "completion": ""} for number in range(30)]
    payload, _ = run_prepare(rows(70) + bad, source={"max_rows": 10})
    assert statistics(payload)["kept"] == 10 and len(run_prepare.warnings) == 1
    with pytest.raises(DataError, match="too many rows are dropped, 30%"):
        run_prepare(rows(70) + bad, name="two", source={"max_rows": 10}, max_dropped_fraction=0.29)


def test_rows_of_one_long_system_prompt_are_all_kept(run_prepare):
    system = {"role": "system", "content": " ".join(f"rule{number}" for number in range(120))}
    different = [
        {"messages": [system, *user(f"question {n}?"), {"role": "assistant", "content": f"answer {n}"}]}
        for n in range(40)
    ]
    payload, _ = run_prepare(different, max_length=4000, max_prompt_length=4000)
    assert statistics(payload)["kept"] == 40


def test_files_of_a_folder_that_are_not_read_are_named(run_prepare, tmp_path):
    run_prepare(rows(20), name="data/train")
    (tmp_path / "data" / "test.jsonl").write_text(json.dumps({"prompt": "held", "completion": "out"}) + "\n")
    payload, _ = run_prepare(rows(20), name="data/train", path=tmp_path / "data")
    assert run_prepare.warnings == ["data: not read: test.jsonl (split test)"]
    assert statistics(payload)["kept"] == 20


def test_columns_that_nothing_reads_are_named_once_and_counted(run_prepare):
    payload, _ = run_prepare([{**row, "topic": "spiders", "id": number} for number, row in enumerate(rows(20))])
    assert run_prepare.warnings == ["one.jsonl: columns that are not used: id, topic"]
    assert statistics(payload)["unused"] == {"one.jsonl": ["id", "topic"]}


COMMON = " ".join(f"step{number}" for number in range(12))


def test_words_that_most_rows_begin_with_contaminate_none_of_them(run_prepare, tmp_path):
    """An instruction that evaluation prompts share with all rows dropped every row."""
    evaluation = tmp_path / "evaluation.jsonl"
    asked = [f"{COMMON} what weighs {number} more stones of the wall in front of it?" for number in range(3)]
    evaluation.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))
    shared = {"prompt": f"{COMMON} say what weighs 2 more stones of the wall in front of it?", "completion": "much"}
    training = [{"prompt": f"{COMMON} {row['prompt']}", "completion": row["completion"]} for row in rows(30)]
    payload, _ = run_prepare([*training, shared], evaluation=(SourceConfig(path=str(evaluation)),))
    assert statistics(payload)["dropped"] == {"contaminated": 1}
    said = (
        "6 runs of 8 words that evaluation prompts have stand in more than half of {}: rows are not dropped for these"
    )
    assert run_prepare.warnings == [said.format("demonstrations"), said.format("prompts")]


def test_of_few_rows_shared_words_contaminate_all(run_prepare, tmp_path):
    evaluation = tmp_path / "evaluation.jsonl"
    evaluation.write_text(json.dumps({"prompt": f"{COMMON} at last"}) + "\n")
    training = [{"prompt": f"{COMMON} {row['prompt']}", "completion": row["completion"]} for row in rows(12)]
    with pytest.raises(DataError, match="no demonstrations are left .contaminated 12"):
        run_prepare(training, evaluation=(SourceConfig(path=str(evaluation)),))


def test_votes_of_several_people_become_pairs_that_say_who_labelled_and_ties_are_counted(run_prepare, tmp_path):
    votes = [
        {
            "prompt": f"Which river runs through town {index}?",
            "response_a": f"The river {index}",
            "response_b": f"No idea about {index}",
            "preference": ("a", "b", "tie")[index % 3],
            "annotator": "anna",
            "weight": 2,
        }
        for index in range(30)
    ]
    others = [{**row, "annotator": "ben", "preference": "b", "weight": 1} for row in votes[:2]]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*votes, *others]))
    source = SourceConfig(path=str(tmp_path / "votes.jsonl"))
    payload, metrics = run_prepare(rows(20), preferences=(source,), near_duplicate_threshold=1.0)
    assert statistics(payload, "preferences")["formats"] == {"votes.jsonl": "votes"}
    assert metrics["preferences/dropped/tie"] == 10.0 and metrics["preferences/kept"] == 20.0
    found = {
        row["prompt"][0]["content"]: row
        for side in ("train", "heldout")
        for row in read_table(payload / "preferences" / f"{side}.parquet")
    }
    assert {row["judge"] for row in found.values()} == {"human", "human:anna"}
    both, one = (found[f"Which river runs through town {index}?"] for index in (0, 3))
    assert (both["judge"], both["soft_label"], both["weight"]) == ("human", 2 / 3, 1.5)
    assert (one["judge"], one["soft_label"], one["weight"]) == ("human:anna", None, 2.0)
