"""Rows of prompts, with the verifiable instructions, the reference answer and the name of a check that their columns hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Messages, Row, RowError


def prompt_row(prompt: Messages, row: Row) -> Row:
    """A row of prompts, with the verifiable instructions that IFEval's columns name, and reference answer and verifier where columns have them.

    Raises:
        RowError: `bad_instructions`, `bad_reference`, `bad_verifier`: a column has what no stage could read.
    """
    return {"prompt": prompt, "instructions": _instructions(row), **_reference(row), **_verifier(row)}


def _reference(row: Row) -> dict[str, str]:
    """The reference as text; figures, lists and schemas are written as JSON, and NaN is how tables write that there is nothing."""
    reference = row.get("reference")
    if reference is None or isinstance(reference, float) and math.isnan(reference):
        return {}
    if not isinstance(reference, str):
        try:
            reference = json.dumps(reference, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise RowError("bad_reference") from None
    if "\0" in reference:
        raise RowError("bad_reference")
    return {"reference": reference} if reference.strip() else {}


def _verifier(row: Row) -> dict[str, str]:
    """The name of the check that the row asks for, as it stands there: what a name means is the recipe's."""
    name = row.get("verifier")
    if name is None or isinstance(name, float) and math.isnan(name) or name == "":
        return {}
    if not isinstance(name, str) or not name.isprintable():
        raise RowError("bad_verifier")
    return {"verifier": name.strip()} if name.strip() else {}


def _instructions(row: Row) -> Any:
    names = _listed(row.get("instruction_id_list"))
    if not names:
        checks = row.get("instructions")
        if isinstance(checks, list):  # a cell of CSV whose JSON was read, or a row that holds the checks themselves
            checks = json.dumps(checks, ensure_ascii=False, sort_keys=True)
        return None if checks == "" else checks
    arguments = _listed(row.get("kwargs"))
    arguments = [{}] * len(names) if arguments is None else arguments
    if not (isinstance(names, list | tuple) and isinstance(arguments, list | tuple) and len(arguments) == len(names)):
        raise RowError("bad_instructions")
    checks = [{"id": name, "kwargs": _given(given)} for name, given in zip(names, arguments, strict=True)]
    return json.dumps(checks, ensure_ascii=False, sort_keys=True)


def _listed(value: Any) -> Any:
    """A value of a column of IFEval's; a table may hold it as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        raise RowError("bad_instructions") from None


def _given(arguments: Any) -> dict[str, Any]:
    arguments = _listed(arguments)
    if arguments is not None and not isinstance(arguments, Mapping):
        raise RowError("bad_instructions")
    return {name: value for name, value in (arguments or {}).items() if value is not None}
