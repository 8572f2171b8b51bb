"""A tokenizer's corpus is all text of its sources, and what cannot be read is counted."""

import json
from collections import Counter

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.sources.corpus import iter_corpus_texts


def texts(path, content):
    path.write_text(content)
    left_out = Counter()
    return list(iter_corpus_texts([SourceConfig(path=str(path))], left_out)), left_out


def test_it_is_all_text_of_all_columns(tmp_path):
    rows = [
        {"prompt": "a", "completion": "b"},
        {"prompt": "c, d", "turns": [{"content": "e"}, {"content": "f"}], "score": 1},
    ]
    assert texts(tmp_path / "rows.json", json.dumps(rows)) == (["a", "b", "c, d", "e", "f"], {})


def test_rows_that_cannot_be_read_are_counted_by_their_reason(tmp_path):
    assert texts(tmp_path / "rows.jsonl", '{"text": "a"}\nbroken\n[1]\nbroken\n') == (
        ["a"],
        {"not_json": 2, "not_a_row": 1},
    )
