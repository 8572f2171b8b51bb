"""JSON that a schema allows."""

import json

import pytest

from alignflow.data.configs.verifiers import JSONSchemaOptions
from alignflow.data.errors import RecipeError
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.json_schema import JSONSchema

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}


def outcome(text, schema=SCHEMA, **options):
    reference = schema if schema is None or isinstance(schema, str) else json.dumps(schema)
    return JSONSchema(JSONSchemaOptions(**options)).check(Episode({"id": "q", "reference": reference}, text, True))


@pytest.mark.parametrize(
    ("text", "score", "parsed"),
    [
        ('{"age": 3}', 1.0, True),
        ('{"age": -3}', 0.0, True),
        ('Here:\n```json\n{"age": 3}\n```\nDone', 1.0, True),
        ('```\n[]\n```\n```json\n{"age": 3}\n```', 1.0, True),
        ('Here: {"age": 3}', 0.0, False),
        ('{"age": NaN}', 0.0, False),
        ("[" * 100_000, 0.0, False),
        ('{"age": ' + "9" * 10_000 + "}", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_json_is_taken_from_a_fence_or_the_whole_answer(text, score, parsed):
    found = outcome(text)
    assert (found.score, found.parsed) == (score, parsed)


def test_a_fence_may_be_asked_for():
    assert outcome('{"age": 3}', take_from="fence").parsed is False
    assert outcome('```\n{"age": 3}\n```', take_from="whole").parsed is False


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (None, "{}"),
        ("{", "{}"),
        ("[]", "{}"),
        ({"type": "no such"}, "{}"),
        ({"$ref": "https://example.invalid/schema"}, "{}"),
        ({"$ref": "#"}, "{}"),
        ({"patternProperties": {"a": True}}, "{}"),
        ({"pattern": "("}, '"a"'),
    ],
)
def test_a_schema_that_cannot_be_used_gives_no_score(schema, text):
    found = outcome(text, schema)
    assert found.score is None and found.reason


def test_a_pattern_of_a_schema_has_a_time_limit(monkeypatch):
    monkeypatch.setattr("alignflow.models.rewards.verifiers.json_schema.TIMEOUT_S", 0.05)
    assert outcome('"' + "a" * 60 + '!"', {"pattern": "(a|aa)+$"}).score is None
    assert outcome('"ab"', {"pattern": "b$"}).score == 1 and outcome('"ab"', {"pattern": "a$"}).score == 0


def test_a_file_with_the_schema_is_read_at_once(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    assert outcome('{"age": 1}', None, schema_file=str(file)).score == 1
    file.write_text("{")
    with pytest.raises(RecipeError, match="no JSON schema"):
        outcome("{}", None, schema_file=str(file))


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 400])
def test_a_number_too_large_to_divide_is_wrong_and_raises_nothing(text):
    assert outcome(text, {"multipleOf": 0.1}).score == 0


@pytest.mark.parametrize("dialect", [[], 5, {}])
def test_a_schema_whose_dialect_is_no_text_gives_no_score(dialect):
    assert outcome("{}", {"$schema": dialect}).score is None
