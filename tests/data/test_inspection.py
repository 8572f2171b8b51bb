"""What a source or a table becomes, and how its rows are written as tokens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import as_artifact, small_tokenizer

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DamagedArtifactError, RecipeError, UserError
from alignflow.data.inspection import (
    as_json,
    inspect_source,
    inspect_table,
    render,
    rendered_rows,
    token_warnings,
    visible,
    with_template,
)
from alignflow.data.records import assistant, user, write_table
from alignflow.data.rendering import encode_conversation, encode_prompt, load_tokenizer

PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(small_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture
def written(tmp_path):
    """Writes rows, and texts as they are, to a file of lines; returns the source."""

    def write(*rows, name="rows.jsonl", **settings):
        (tmp_path / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return SourceConfig(path=str(tmp_path / name), **settings)

    return write


def test_a_source_says_its_format_its_kinds_and_what_its_columns_became(written):
    found = inspect_source(written(PAIR, {**PAIR, "chosen": "Because."}))
    assert (found.format, found.kind, found.error) == ("trl", "preferences", None)
    assert found.kinds[0] == "preferences" and "demonstrations" in found.kinds
    assert found.counted.read == len(found.counted.rows) == 2 and found.warnings == []
    assert found.uses.became == {"prompt": ["prompt: user"], "chosen": ["chosen"], "rejected": ["rejected"]}


def test_a_kind_that_is_named_is_the_one_that_it_is_read_as(written):
    found = inspect_source(written(PAIR), "demonstrations")
    assert found.counted.rows[0]["messages"] == [*user("Why?"), *assistant("So.")]
    assert found.warnings == ["rejected: not used"]


def test_dropped_rows_are_counted_by_reason_and_a_tenth_is_warned_of(written):
    few = inspect_source(
        written(*[{**PAIR, "prompt": f"{number}?"} for number in range(19)], {**PAIR, "rejected": "So."})
    )
    assert few.dropped == {"identical_pair": 1} and few.warnings == []
    many = inspect_source(written(PAIR, PAIR, {**PAIR, "rejected": "So."}))
    assert many.warnings == ["dropped: 1 of 3 rows"] and len(many.counted.rows) == 2


def test_rows_that_a_recipe_left_out_on_purpose_are_counted_and_not_warned_of(payload):
    change_statistics(payload, {"over_max_rows": 9})
    assert inspect_table(payload).warnings == [] and inspect_table(payload).dropped == {"over_max_rows": 9}


def test_where_no_row_can_be_used_the_rest_is_known_all_the_same(written):
    found = inspect_source(written(PAIR, PAIR), "unpaired")
    assert (found.format, found.counted.read, found.counted.rows) == ("trl", 2, [])
    assert found.dropped == {"missing_column": 2} and found.uses.seen == ["prompt", "chosen", "rejected"]
    assert "not one row can be used as unpaired" in found.error_line and found.error_line in found.warnings


def test_too_many_broken_lines_are_an_error_and_the_other_rows_are_there(written):
    found = inspect_source(written(PAIR, "{broken"))
    assert "1 of 2 lines are broken" in found.error_line
    assert len(found.counted.rows) == 1 and found.dropped == {"not_json": 1} and found.counted.read == 2


def test_rows_of_no_known_format_are_counted(written):
    found = inspect_source(written({"a": 1}, {"a": 2}))
    assert (found.format, found.counted.read, found.dropped) == ("", 2, {})
    assert "no known format has the columns a" in found.error_line


def test_a_file_that_is_not_there_is_said_in_the_result():
    found = inspect_source(SourceConfig(path="./nowhere.jsonl"))
    assert (found.format, found.counted.read) == ("", 0) and "no such file" in found.error_line


def test_a_kind_or_format_that_does_not_exist_is_refused(written):
    with pytest.raises(UserError, match="unknown kind 'preference'") as raised:
        inspect_source(written(PAIR), "preference")
    assert raised.value.do == "did you mean 'preferences'?"
    with pytest.raises(RecipeError, match="unknown name 'alpacca'"):
        inspect_source(written(PAIR, format="alpacca"))


def test_a_key_of_turns_that_is_not_used_is_named_once(written):
    rows = [{"prompt": [{**user("q")[0], "mood": "glad"}], "chosen": "a", "rejected": "b"}]
    assert inspect_source(written(*rows), "preferences").uses.unused == ["prompt[].mood"]


def test_columns_that_parsing_found_unused_in_later_rows_are_listed_too(written, monkeypatch):
    monkeypatch.setattr("alignflow.data.inspection.parse_sources", later_column)
    found = inspect_source(written(PAIR))
    assert found.uses.unused == ["late"] and as_json(found, 0)["examples"] == {"empty": "line 9: {}"}


def later_column(sources, kind, config, kept):
    """Stands for a parse that met a column in a row that the trials do not look at, and dropped a row."""
    kept.rows, kept.read, kept.formats = [{"id": "1", "source": "rows.jsonl"}], 30, {"rows.jsonl": "trl"}
    kept.unused, kept.examples = {"rows.jsonl": ["late"]}, {"empty": "line 9: {}"}


def test_a_demonstration_is_written_as_it_is_trained_on(tokenizer):
    messages = [*user("Why?"), *assistant("So."), *user("And?"), *assistant("No.")]
    side = render(tokenizer, {"messages": messages})[""]
    assert (side.ids, side.supervised) == encode_conversation(tokenizer, messages)
    assert 0 < sum(side.supervised) < len(side.ids)


@pytest.mark.parametrize("names", [("chosen", "rejected"), ("completion",)])
def test_the_answers_of_pairs_and_unpaired_rows_are_supervised_and_their_prompt_is_not(tokenizer, names):
    row = {"prompt": user("Why?"), **{name: assistant(f"{name}.") for name in names}}
    sides = render(tokenizer, row)
    assert list(sides) == (list(names) if len(names) > 1 else [""])
    prompt = encode_prompt(tokenizer, row["prompt"])
    for name, side in zip(names, sides.values(), strict=True):
        assert side.ids[: len(prompt)] == prompt and side.supervised == [False] * len(prompt) + [True] * (
            len(side.ids) - len(prompt)
        )
        assert tokenizer.decode(side.ids[len(prompt) :]) == f"{name}.<|end|>"


def test_an_answer_that_was_cut_has_no_end(tokenizer):
    pair = {
        "prompt": user("Why?"),
        "chosen": assistant("So"),
        "rejected": assistant("No"),
        "chosen_ended": False,
        "rejected_ended": None,
    }
    sides = render(tokenizer, pair)
    assert sides["chosen"].ids[-1] != tokenizer.eos_token_id and sides["rejected"].ids[-1] == tokenizer.eos_token_id
    sides = render(tokenizer, {"prompt": user("Why?"), "completions": ["So", "No"], "ended": [True, False]})
    assert [side.ids[-1] == tokenizer.eos_token_id for side in (sides["0"], sides["1"])] == [True, False]


def test_a_prompt_has_nothing_to_supervise_and_a_passage_all_but_its_first_token(tokenizer):
    assert not any(render(tokenizer, {"prompt": user("Why?")})[""].supervised)
    passage = render(tokenizer, {"text": "Once."})[""]
    assert passage.ids[0] == tokenizer.eos_token_id and passage.supervised == [False] + [True] * (len(passage.ids) - 1)


def test_json_has_a_flag_and_a_token_for_each_id_and_a_list_for_each_side_of_a_pair(tokenizer, written):
    found = inspect_source(written(PAIR))
    (row,) = as_json(found, 1, tokenizer, rendered_rows(tokenizer, found.counted.rows, []))["rows"]
    assert row["prompt"] == user("Why?") and row["source"] == "rows.jsonl"
    for side in ("chosen", "rejected"):
        assert len(row["ids"][side]) == len(row["tokens"][side]) == len(row["supervised"][side])
        assert row["tokens"][side] == tokenizer.convert_ids_to_tokens(row["ids"][side])
    found = inspect_source(written(PAIR), "demonstrations")
    (row,) = as_json(found, 1, tokenizer, rendered_rows(tokenizer, found.counted.rows, []))["rows"]
    assert isinstance(row["ids"], list) and set(row["supervised"]) == {True, False}


def test_json_without_a_tokenizer_has_the_prepared_columns_alone(written):
    found = as_json(inspect_source(written(PAIR, PAIR)), 1)
    assert [set(row) for row in found["rows"]] == [set(found["rows"][0])] and "ids" not in found["rows"][0]
    assert {"format", "read", "kept", "dropped", "warnings", "rows"} <= set(found) and (
        found["read"],
        found["kept"],
    ) == (2, 2)


def test_a_row_that_the_template_refuses_is_named_and_the_others_are_written(tmp_path):
    tokenizer = load_tokenizer(small_tokenizer(tmp_path))
    tokenizer.chat_template = (
        "{{ raise_exception('no system turn') if messages[0]['role'] == 'system' }}" + tokenizer.chat_template
    )
    rows = [{"prompt": [{"role": "system", "content": "Be brief."}, *user("Why?")]}, {"prompt": user("Why?")}]
    warnings = []
    refused, fine = rendered_rows(tokenizer, rows, warnings)
    assert refused == {} and fine[""].ids
    assert len(warnings) == 1 and warnings[0].startswith("row 1 cannot be written") and "no system turn" in warnings[0]
    assert token_warnings(tokenizer, rows, 100) == ["refused by the chat template: 1 of 2 rows"]


def test_rows_that_are_too_long_or_have_control_tokens_in_their_text_are_counted(tokenizer):
    rows = [{"prompt": user("Why?")}, {"prompt": user("Why, oh why, and again why?")}, {"prompt": user("a <|end|> b")}]
    shortest, longest = (len(encode_prompt(tokenizer, rows[index]["prompt"])) for index in (0, 1))
    controls = "control tokens in the text, which are encoded as plain text: 1 of 3 rows"
    assert token_warnings(tokenizer, rows, longest) == [controls]
    over = f"over {shortest} tokens, prompt and answer together: 2 of 3 rows"
    assert token_warnings(tokenizer, rows, shortest) == [controls, over]


def test_a_tokenizer_without_a_template_gets_that_of_init_and_it_is_said(tmp_path):
    tokenizer = load_tokenizer(small_tokenizer(tmp_path))
    assert with_template(tokenizer) == []
    tokenizer.chat_template = None
    assert "`instruction`" in with_template(tokenizer)[0]
    assert "### Response" in tokenizer.decode(render(tokenizer, {"prompt": user("Why?")})[""].ids)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126) | st.sampled_from(" \n"), max_size=40))
def test_what_a_reader_sees_of_the_tokens_is_the_text_with_its_blanks_and_line_ends(tokenizer, text):
    shown = "".join(visible(tokenizer, token) for token in tokenizer(text)["input_ids"])
    assert shown == text.replace(" ", "␣").replace("\n", "⏎")


def test_no_token_steers_a_terminal_and_a_part_of_a_character_has_its_own_name(tokenizer):
    shown = [visible(tokenizer, token) for token in tokenizer("\x1b[31m\té")["input_ids"]]
    assert "\\x1b" in shown and "\\t" in shown and "\ufffd" not in "".join(shown) and all(shown)


@pytest.fixture
def payload(store, tmp_path):
    """The payload of an artifact like those of `prepare`."""
    rows = [
        {"id": str(index), "source": "a.jsonl", "messages": [*user(f"{index}?"), *assistant("So.")]}
        for index in range(3)
    ]
    for side, chosen in {"heldout": rows[:1], "train": rows[1:]}.items():
        write_table(chosen, "demonstrations", tmp_path / "made" / "demonstrations" / f"{side}.parquet")
    write_table(
        [{"id": "9", "source": "a.jsonl", "prompt": user("9?")}],
        "prompts",
        tmp_path / "made" / "evaluation" / "prompts.parquet",
    )
    known = {"read": 5, "kept": 3, "dropped": {"duplicate": 2}, "formats": {"a.jsonl": "alpaca"}}
    (tmp_path / "made" / "statistics.json").write_text(json.dumps({"tables": {"demonstrations": known}}))
    return as_artifact(tmp_path / "made", store.root, "prepare-1", "dataset")


def change_statistics(payload, dropped):
    """Let the artifact say that it dropped other rows, as if it had been published so."""
    statistics = {"tables": {"demonstrations": {"read": 12, "dropped": dropped}}}
    (payload / "statistics.json").write_text(json.dumps(statistics))
    made = payload.parent.rename(payload.parent.parent / "old")
    as_artifact(made / "payload", payload.parents[2], "prepare-1", "dataset")


def test_a_prepared_table_says_what_was_counted_when_it_was_made(payload):
    found = inspect_table(payload)
    assert (found.kind, found.kinds, found.format) == ("demonstrations", ["demonstrations", "evaluation"], "alpaca")
    assert (found.counted.read, found.dropped) == (5, {"duplicate": 2})
    assert [row["id"] for row in found.counted.rows] == ["1", "2", "0"], "rows to train on come first"
    other = inspect_table(payload, "evaluation")
    assert (other.format, other.counted.read, len(other.counted.rows)) == ("alignflow", 1, 1)


def test_a_table_that_the_artifact_does_not_have_is_refused(payload, tmp_path):
    with pytest.raises(UserError, match="no table 'preferences'"):
        inspect_table(payload, "preferences")
    with pytest.raises(UserError, match="no table of rows"):
        inspect_table(tmp_path)


def test_a_table_that_is_not_the_published_one_is_damage(payload):
    file = payload / "demonstrations" / "train.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    with pytest.raises(DamagedArtifactError):
        inspect_table(payload)


def test_a_column_that_tells_the_split_decides_about_rows(tmp_path):
    rows = [{"prompt": f"q{i}", "completion": "a", "split": split} for i, split in enumerate(("train", "test") * 9)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = inspect_source(SourceConfig(path=str(tmp_path / "rows.jsonl")))
    assert found.dropped == {"other_split": 9} and "split" in found.uses.decides and not found.warnings
