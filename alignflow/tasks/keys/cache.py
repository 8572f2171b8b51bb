"""Prefect's cache, with our keys and our store behind it, so that the two can never disagree.

Prefect asks the policy for a key and the key storage for a record. The policy returns the key that was computed
before the call (an error inside a policy would silently turn caching off). The key storage stores nothing: it asks the
store whether the artifact is intact, and only then returns the record that Prefect reads. Anything else is a miss.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultRecordMetadata
from prefect.serializers import JSONSerializer

from alignflow.tasks.launch.call import StageResult
from alignflow.tasks.store.artifact_store import ArtifactStore


@dataclass
class StageKeyPolicy(CachePolicy):
    """Returns the key that the call carries."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **_: Any
    ) -> str | None:
        """The key of the one parameter `call`."""
        key: str = inputs["call"].key
        return key


class StoreKeyStorage(LocalFileSystem):
    """Reports a record exactly when the store has an intact artifact of that key."""

    _block_type_name = "alignflow store"
    _block_type_slug = "alignflow-store"

    store_root: str = ""
    results: str = ""

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]  # Prefect declares it async
        """Metadata of the record of a key; raises FileNotFoundError (a miss) unless the artifact is intact."""
        key = Path(path).name
        manifest = ArtifactStore(Path(self.store_root)).find(key)
        if manifest is None:
            raise FileNotFoundError(key)
        metadata = ResultRecordMetadata(
            storage_key=key,
            serializer=JSONSerializer(),
            expiration=None,
            prefect_version=manifest.libraries.get("prefect", ""),
        )
        value = StageResult(ref=manifest.ref(), ran=False).model_dump()
        _write_whole(Path(self.results) / key, json.dumps(value))
        return metadata.dump_bytes()

    async def aread_path(self, path: str) -> bytes:
        """As read_path."""
        return self.read_path(path)

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> str:  # type: ignore[override]  # Prefect declares it async
        """Store nothing: publishing in the store makes a hit. Returns the path."""
        return path

    async def awrite_path(self, path: str, content: bytes) -> str:
        """As write_path."""
        return self.write_path(path, content)


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(text)
    os.replace(temporary, path)
