"""Secret blocks of the Prefect server, read in the process that starts a stage: only that one has the server's login."""

from __future__ import annotations

from typing import Any, cast

from prefect.blocks.system import Secret

from alignflow.data.errors import UserError


def read_block(name: str) -> str:
    """The value of a Secret block; raises UserError if the server has no block of this name or it is empty."""
    advice = f"save one on the server that the run uses (`alignflow up`): prefect.blocks.system.Secret(value=...).save({name!r})"
    try:
        content = str(cast(Any, Secret).load(name, _sync=True).get())
    except ValueError as error:
        raise UserError(f"no Secret block {name!r}", where="api_key_block", do=advice) from error
    if not content.strip():
        raise UserError(f"the Secret block {name!r} is empty", where="api_key_block", do=advice)
    return content
