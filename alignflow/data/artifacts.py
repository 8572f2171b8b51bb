"""Artifacts as they are written: references, manifests, digests. Who finds and publishes them is `tasks.store`.

An artifact is a directory `<store>/artifacts/<key>/` with `payload/` (its digest is the artifact's), `side/` (logs,
curves, timings: no part of that digest), `stat.json` (sizes and times at the last full check) and `manifest.json`, which
is written last, has the SHA-256 of every file, and carries a digest of itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from alignflow.data.errors import DamagedArtifactError
from alignflow.data.seals import check_text, sealed_text

SCHEMA_VERSION = 2  # 1: manifests without a digest of their own
MANIFEST = "manifest.json"
STAT = "stat.json"
WEIGHTS = ".safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
)


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
    """Everything about an artifact that is known when it is published.

    `seal` is the SHA-256 of the file itself with this field empty; `manifest_text` fills it in. It is empty in manifests of
    schema version 1.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    kind: str
    key: str
    digest: str
    stage: str
    files: dict[str, str]  # payload path -> SHA-256
    side: dict[str, str] = Field(default_factory=dict)  # path below side/ -> SHA-256
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
    seal: str = ""

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


def manifest_text(manifest: Manifest) -> str:
    """A manifest as it is written: JSON that carries the digest of its own bytes."""
    return sealed_text(
        manifest.model_copy(update={"schema_version": SCHEMA_VERSION, "seal": ""}).model_dump_json(indent=1)
    )


def read_manifest(artifact: Path) -> Manifest:
    """Read and check the manifest of an artifact directory: its seal, its digests, and its key against the directory's name.

    A manifest of schema version 1 has no seal. It is read where everything else agrees; `ArtifactStore.find` then hashes the
    artifact whole and seals it.

    Raises:
        OSError: there is none, or it cannot be read now.
        ValueError: it is not the manifest that was written, and what is wrong with it.
    """
    artifact = Path(artifact).absolute()
    data = (artifact / MANIFEST).read_bytes()
    manifest = Manifest.model_validate_json(data)
    if manifest.seal or manifest.schema_version > 1:
        check_text(data)
    elif manifest.components and manifest.key != _key_of(manifest):
        raise ValueError("its key is not that of its components")
    if artifact.parent.name == "artifacts" and manifest.key != artifact.name:
        raise ValueError(f"it is the manifest of {manifest.key}")
    if manifest.digest != digest_of(manifest.files) or manifest.parts != part_digests(manifest.files):
        raise ValueError("its digests do not agree with each other")
    return manifest


def _key_of(manifest: Manifest) -> str:
    return f"{manifest.stage}-{text_digest(canonical_json(manifest.components))[:40]}"


def checked_manifest(artifact: Path) -> Manifest:
    """As `read_manifest`, for whoever is about to use the artifact; raises DamagedArtifactError where it cannot be trusted."""
    try:
        return read_manifest(artifact)
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(Path(artifact), f"its manifest cannot be trusted ({_first_line(error)})") from None


def artifact_of(path: Path) -> Path | None:
    """The artifact directory that a payload path lies in; None for a path outside a store."""
    for parent in (path, *path.parents):
        artifact = parent.parent
        if parent.name == "payload" and (
            (artifact / MANIFEST).is_file() or (artifact / STAT).is_file()
        ):  # one whose manifest is lost is one
            return artifact
    return None


def identity(path: Path) -> tuple[str, str]:
    """Key and digest of what lies at a path: of its artifact; outside a store there is no key, and all files are hashed."""
    artifact = artifact_of(Path(path).absolute())
    if artifact is not None:
        manifest = checked_manifest(artifact)
        return manifest.key, manifest.digest
    return "", digest_of({name: file_digest(Path(path) / name) for name in payload_files(Path(path))})


def verify_files(path: Path) -> None:
    """Hash a model's files, weights included, as it is loaded, wherever its path comes from: an input, an option, the user.

    A path that is not in a store has no manifest to compare with, and passes.

    Raises:
        DamagedArtifactError: a file is not the one that the manifest records.
    """
    verify_whole(path)


def verify_inputs(path: Path) -> None:
    """Hash everything of an input but its weights before a stage uses it, and see that nothing was added; weights are hashed
    while they are loaded (`verify_files`). A path that is not in a store passes.

    Raises:
        DamagedArtifactError: a file is not the one that the manifest records, is missing, or is none of the artifact's.
    """
    _verify(Path(path), lambda name: not name.endswith(WEIGHTS))
    _refuse_extra(Path(path))


def verify_whole(path: Path, copy: Path | None = None) -> None:
    """Hash everything at a path, or at a copy of it, weights included; raises DamagedArtifactError as `verify_inputs` does."""
    _verify(Path(path), lambda name: True, copy)
    _refuse_extra(Path(path))


def verify_file(file: Path) -> None:
    """Hash one file of a payload before it is read; a file outside a store passes.

    Raises:
        DamagedArtifactError: it is not the one that the manifest records, or is missing.
    """
    file = Path(file)
    artifact, directory = _place(file.parent)
    if artifact is None:
        return
    wanted = str((directory / file.name).relative_to(artifact / "payload"))
    if wanted not in checked_manifest(artifact).files:
        raise _damaged(artifact, f"{wanted} is not in its manifest")
    _verify(directory, lambda name: name == wanted)


def refuse_damaged(path: Path, what: str) -> None:
    """Say that a file which cannot be read is damage, where it is one of an artifact's: raises DamagedArtifactError there alone."""
    artifact, place = _place(Path(path))
    if artifact is not None and str(place.relative_to(artifact / "payload")) in checked_manifest(artifact).files:
        raise _damaged(artifact, what)


def extra_files(payload: Path, files: Mapping[str, str]) -> list[str]:
    """Files of a payload that are none of the artifact's; hidden ones, which file systems leave, count for nothing."""
    return [name for name in payload_files(payload) if name not in files and not Path(name).name.startswith(".")]


def _verify(path: Path, chosen: Callable[[str], bool], copy: Path | None = None) -> None:
    artifact, path = _place(path)
    if artifact is None:
        return
    for name, digest in checked_manifest(artifact).files.items():
        file = artifact / "payload" / name
        if not file.is_relative_to(path) or not chosen(name):
            continue
        read = copy / file.relative_to(path) if copy else file
        if not read.is_file():
            raise _damaged(artifact, f"{name} is missing")
        if file_digest(read) != digest:
            raise _damaged(artifact, f"{name} is not what its manifest records")


def _refuse_extra(path: Path) -> None:
    artifact, path = _place(path)
    if artifact is None:
        return
    payload = artifact / "payload"
    extra = [
        name for name in extra_files(payload, checked_manifest(artifact).files) if (payload / name).is_relative_to(path)
    ]
    if extra:
        raise _damaged(artifact, f"{extra[0]} is not in its manifest")


def _place(path: Path) -> tuple[Path | None, Path]:
    """The artifact that a path lies in, and the path as it is below it: a link to a payload leads there too."""
    path = path.absolute()
    artifact = artifact_of(path)
    return (artifact, path) if artifact else (artifact_of(path.resolve()), path.resolve())


def _damaged(artifact: Path, what: str) -> DamagedArtifactError:
    return DamagedArtifactError(
        what,
        key=artifact.absolute().name,
        where=str(artifact),
        do="a run sets it aside and makes it again; `alignflow verify` sets it aside too",
    )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
