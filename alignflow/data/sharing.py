"""Whether several machines share a store: it says so itself, in store.json, and every machine reads it there."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from alignflow.data.errors import StoreError

STORE_FILE = "store.json"
SHARED = "shared"


class Sharing(BaseModel):
    """How machines share a store; the same for all of them, so it stands in the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beat_s: float = Field(default=10.0, gt=0, description="Seconds between two heartbeats of a lock's holder.")
    expiry_s: float = Field(
        default=60.0, gt=0, description="Seconds without a heartbeat after which a lock may be taken over."
    )


def sharing_of(root: Path) -> Sharing | None:
    """What the store at `root` says; None for one of one machine, or none yet. Raises StoreError where it cannot be read."""
    file = root / STORE_FILE
    try:
        found = json.loads(file.read_text()).get(SHARED)
        return None if found is None else Sharing.model_validate(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"the store does not say whether machines share it ({error})",
            where=str(file),
            do="check the mount; where the file is damaged, `alignflow list` says how to heal it",
        ) from None
