"""Rows of prompts, with the verifiable instructions and the reference answer that their columns hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Messages, Row, RowError


def prompt_row(prompt: Messages, row: Row) -> Row:
    """A row of prompts, with the verifiable instructions that IFEval's columns name, and the reference answer where a column has one."""
    return {"prompt": prompt, "instructions": _instructions(row), **_reference(row)}


def _reference(row: Row) -> dict[str, str]:
    reference = row.get("reference")
    return {"reference": reference} if isinstance(reference, str) and reference.strip() else {}


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
