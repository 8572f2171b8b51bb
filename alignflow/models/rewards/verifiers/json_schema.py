"""Checks JSON against a schema (jsonschema, draft by the schema's own `$schema`). Nothing is fetched, and patterns have a time limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from alignflow.data.configs.verifiers import JSONSchemaOptions
from alignflow.data.errors import RecipeError
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import NO_REFERENCE, UNPARSED, Outcome, reference_of, unchecked, verdict
from alignflow.models.rewards.verifiers.patterns import compiled

TIMEOUT_S = 2.0


class JSONSchema:
    """1 for JSON that the schema allows; 0 for other JSON, and for no JSON."""

    def __init__(self, options: JSONSchemaOptions):
        self._options, self._schema = options, ""
        if options.schema_file is not None:
            where = "verifier.options.schema_file"
            try:
                self._schema = Path(options.schema_file).read_text(encoding="utf-8")
                _validator(self._schema)
            except (OSError, UnicodeDecodeError, ValueError) as error:
                what = f"no JSON schema that can be used: {str(error)[:200]}"
                raise RecipeError(what, where=where, do="correct the file") from None

    def check(self, episode: Episode) -> Outcome:
        """Read the JSON of the answer, and validate it."""
        if not (schema := self._schema or reference_of(episode)):
            return unchecked(NO_REFERENCE)
        try:
            validator = _validator(schema)
        except ValueError as error:
            return unchecked(f"the row's reference is no JSON schema that can be used: {str(error)[:100]}")
        try:
            value = _read(_written(episode.text, self._options.take_from))
        except (ValueError, RecursionError):
            return UNPARSED
        try:
            return verdict(validator.is_valid(value))
        except TimeoutError:
            return unchecked(f"a pattern of the schema took longer than {TIMEOUT_S:g} s")
        except (Unresolvable, RecursionError) as error:
            return unchecked(f"the schema refers to what is not in it, or to itself: {str(error)[:80]}")
        except OverflowError:  # multipleOf, of 1e999 or of a number with hundreds of digits
            return verdict(False)


def _written(text: str, take_from: str) -> str:
    """The text that should be JSON; raises ValueError if a fence is asked for and there is none."""
    fenced = _fenced(text) if take_from != "whole" else []
    if not fenced and take_from == "fence":
        raise ValueError("no fence")
    return fenced[-1] if fenced else text


def _fenced(text: str) -> list[str]:
    """The blocks between lines that begin with ```."""
    blocks: list[str] = []
    lines: list[str] | None = None
    for line in text.split("\n"):
        if not line.strip().startswith("```"):
            if lines is not None:
                lines.append(line)
        elif lines is None:
            lines = []
        else:
            blocks.append("\n".join(lines))
            lines = None
    return blocks


def _read(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


@lru_cache(maxsize=1000)
def _validator(text: str) -> Any:
    """A validator of a schema given as text; raises ValueError if it is not a schema."""
    try:
        schema = _read(text)
        if not isinstance(schema, dict | bool):
            raise ValueError("it is neither an object nor true or false")
        if isinstance(schema, dict) and not isinstance(schema.get("$schema", ""), str):
            raise ValueError("its $schema is no text")
        _refuse_patterns_of_names(schema)
        kind = validators.validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except SchemaError as error:
        raise ValueError(error.message) from None
    # An empty registry resolves no address outside of the schema, so that nothing is ever fetched.
    return validators.extend(kind, {"pattern": _matches})(schema, registry=Registry())


def _refuse_patterns_of_names(schema: Any) -> None:
    """Refuse `patternProperties`: the library would search a model's property names with it, without a time limit."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            raise ValueError("patternProperties is not supported")
        for value in schema.values():
            _refuse_patterns_of_names(value)
    elif isinstance(schema, list):
        for value in schema:
            _refuse_patterns_of_names(value)


def _matches(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """The keyword `pattern`, with a time limit."""
    if isinstance(instance, str):
        try:
            found = compiled(pattern).search(instance, timeout=TIMEOUT_S)
        except (regex.error, MemoryError):
            raise TimeoutError from None  # a pattern with another syntax, or a recursive one: the check cannot be made
        if not found:
            yield ValidationError(f"{instance[:60]!r} does not match")
