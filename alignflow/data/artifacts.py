"""Artifacts as they are written: references, manifests, digests. Who finds and publishes them is `tasks.store`.

An artifact is a directory `<store>/artifacts/<key>/` with `payload/` (digested), `side/` (logs, curves, timings:
not digested), `stat.json` (sizes and times at the last full check) and `manifest.json`, which is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from alignflow.data.errors import DamagedArtifactError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json",
    "merges.txt", "tokenizer.model", "added_tokens.json",
)  # fmt: skip


class ArtifactRef(BaseModel):
    """What travels between stages: under 1 kB, never a blob.

    Attributes:
        kind: checkpoint, reward_model, dataset, evaluation or report.
        key: What made it; also its directory in the store.
        digest: What it is: SHA-256 over the payload, or over `part` of it.
        part: A named part of the payload that a stage takes; empty for the whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    key: str
    digest: str
    part: str = ""


class Manifest(BaseModel):
    """Everything about an artifact that is known when it is published."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    kind: str
    key: str
    digest: str
    stage: str
    files: dict[str, str]  # payload path -> SHA-256
    parts: dict[str, str]  # part name -> digest
    components: dict[str, Any]  # what the key was computed from
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef]
    versions: dict[str, str]  # alignflow, stage and bound parts
    fingerprint: str  # syntax-tree fingerprint of the stage's source
    libraries: dict[str, str]
    runtime: dict[str, Any]  # resolved device, precision, engine, threads
    seed: int | None
    licences: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float | None]
    warnings: list[str] = Field(default_factory=list)
    cost: dict[str, float | None]  # wall_s, cpu_s, gpu_s, tokens, tokens_per_s, peak_memory_mb
    created: str  # ISO time, UTC

    def ref(self, part: str = "") -> ArtifactRef:
        """The reference to this artifact, or to one part of it."""
        digest = self.parts[part] if part else self.digest
        return ArtifactRef(kind=self.kind, key=self.key, digest=digest, part=part)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values are equal bytes. Raises TypeError for anything else."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def payload_files(directory: Path) -> list[str]:
    """Relative names of all files below `directory`, sorted."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def digest_of(files: Mapping[str, str]) -> str:
    """The digest of a set of files, from their names and digests."""
    return text_digest(canonical_json(dict(files)))


def part_digests(files: Mapping[str, str]) -> dict[str, str]:
    """Digests of the named parts: each top-level directory of the payload, and `tokenizer` where there is one."""
    groups: dict[str, dict[str, str]] = {}
    for name, digest in files.items():
        if "/" in name:
            groups.setdefault(name.split("/", 1)[0], {})[name] = digest
        elif name in TOKENIZER_FILES:
            groups.setdefault("tokenizer", {})[name] = digest
    return {part: digest_of(group) for part, group in groups.items()}


def read_manifest(artifact: Path) -> Manifest:
    """Read the manifest of an artifact directory; raises OSError or ValueError where there is none that is whole."""
    return Manifest.model_validate_json((artifact / MANIFEST).read_text())


def artifact_of(path: Path) -> Path | None:
    """The artifact directory that a payload path lies in; None for a path outside a store."""
    for parent in (path, *path.parents):
        if parent.name == "payload" and (parent.parent / MANIFEST).is_file():
            return parent.parent
    return None


def identity(path: Path) -> tuple[str, str]:
    """Key and digest of what lies at a path: of its artifact; outside a store there is no key, and all files are hashed."""
    artifact = artifact_of(Path(path).absolute())
    if artifact is not None:
        manifest = read_manifest(artifact)
        return manifest.key, manifest.digest
    return "", digest_of({name: file_digest(Path(path) / name) for name in payload_files(Path(path))})


def verify_files(path: Path, suffixes: tuple[str, ...] = (".safetensors",)) -> None:
    """Re-hash an input's files with these suffixes before they are loaded; raises DamagedArtifactError on a difference.

    A path that is not in a store has no manifest to compare with, and passes.
    """
    artifact = artifact_of(path)
    if artifact is None:
        return
    manifest = read_manifest(artifact)
    for name, digest in manifest.files.items():
        file = artifact / "payload" / name
        if name.endswith(suffixes) and file.is_relative_to(path) and file_digest(file) != digest:
            raise DamagedArtifactError(
                f"{name} is not what its manifest records", key=manifest.key, where=str(artifact),
                do="it is set aside, and the stage that made it runs again",
            )  # fmt: skip
