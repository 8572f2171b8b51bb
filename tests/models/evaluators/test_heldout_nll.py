"""General text is cut at the model's context, and how many texts are is said."""

import pytest
from tests_support import small_tokenizer

from alignflow.data.records import assistant, user, write_table
from alignflow.data.rendering import load_tokenizer
from alignflow.models.evaluators.heldout_nll import general_rows


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(small_tokenizer(tmp_path / "tokenizer"))


def test_texts_over_the_context_are_cut_and_counted(tokenizer, tmp_path, new_run):
    run = new_run()
    rows = [{"id": str(size), "source": "t", "text": "a b " * size} for size in (1, 100, 200)]
    write_table(rows, "texts", tmp_path / "texts.parquet")
    found = general_rows(tmp_path, tokenizer, 10, 16, run)
    assert [len(row) <= 16 for row in found] == [True] * 3
    assert ["2 of 3 general texts are longer than the context of 16 tokens" in line for line in run.warnings] == [True]


def test_conversations_too_and_where_all_fit_nothing_is_said(tokenizer, tmp_path, new_run):
    run = new_run()
    rows = [{"id": str(size), "source": "t", "messages": [*user("q"), *assistant("a b " * size)]} for size in (1, 100)]
    write_table(rows, "demonstrations", tmp_path / "demonstrations.parquet")
    assert len(general_rows(tmp_path, tokenizer, 10, 100_000, run)) == 2 and not run.warnings
    general_rows(tmp_path, tokenizer, 10, 64, run)
    assert "1 of 2 general texts" in run.warnings[0]
