"""A list or a conversation is the same whether a file holds it as a list, as JSON text, or as one list for each key of its turns."""

import json

import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.parsing import parse_sources
from alignflow.data.records import assistant, user
from alignflow.data.sources.written_lists import opened, unpacked

TURNS = [*user("hello"), *assistant("good day")]


@pytest.fixture
def parse(tmp_path):
    def parse_it(rows, kind="demonstrations", name="rows.jsonl", **source):
        text = rows if isinstance(rows, str) else "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / name).write_text(text)
        return parse_sources([SourceConfig(path=str(tmp_path / name), **source)], kind, PrepareConfig())

    return parse_it


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("messages", json.dumps(TURNS), TURNS),
        ("chosen", json.dumps(TURNS[1]), TURNS[1]),
        ("scores", " [1, 2] ", [1, 2]),
        ("messages", {"role": ["user", "assistant"], "content": ["hello", "good day"]}, TURNS),
        ("conversations", {"from": ["human"], "value": ["hi"], "weight": [None]}, [{"from": "human", "value": "hi"}]),
        ("completion", '["a", "b"]', '["a", "b"]'),
        ("completion", '{"from": "EUR", "value": 3}', '{"from": "EUR", "value": 3}'),
        ("completion", '{"role": "admin", "content": "x"}', '{"role": "admin", "content": "x"}'),
        ("text", json.dumps(TURNS), json.dumps(TURNS)),
        ("messages", '[{"role": "user", "role": "system"}]', '[{"role": "user", "role": "system"}]'),
        ("messages", '["\\ud800"]', '["\\ud800"]'),
        ("messages", "[not JSON]", "[not JSON]"),
        ("messages", {"role": ["user"], "content": ["a", "b"]}, {"role": ["user"], "content": ["a", "b"]}),
    ],
)
def test_what_a_value_holds(name, value, wanted):
    assert unpacked(name, value) == wanted


def test_a_path_goes_on_inside_of_json():
    assert opened('{"a": 1}') == {"a": 1} and opened("a") == "a" and opened(3) == 3


def test_conversations_that_are_json_text_are_read_under_any_kind_of_file(parse):
    found = parse([{"messages": json.dumps([{**TURNS[0], "name": "Ann"}, TURNS[1]])}])
    assert found.rows[0]["messages"] == TURNS and found.unused == {"rows.jsonl": ["messages[].name"]}


def test_a_mapped_column_of_a_table_is_read_as_the_column_that_it_stands_for(parse):
    cell = json.dumps(TURNS).replace('"', '""')
    found = parse(f'chat\n"{cell}"\n', name="rows.csv", columns={"messages": "chat"})
    assert found.rows[0]["messages"] == TURNS


def test_a_path_leads_into_a_cell_with_json(parse):
    table = 'data\n"{""q"": ""hello"", ""a"": [{""t"": ""good day""}]}"\n'
    found = parse(table, name="rows.csv", columns={"prompt": "data.q", "completion": "data.a.0.t"})
    assert found.rows[0]["messages"] == TURNS


@pytest.mark.parametrize("columns", [{}, {"messages": "chat"}])
def test_lists_as_python_writes_them_are_refused_for_what_they_are(parse, columns):
    with pytest.raises(DataError, match="as Python writes them, and not as JSON"):
        parse([{columns.get("messages", "messages"): str(TURNS)}], columns=columns)
