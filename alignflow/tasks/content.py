"""Digests of what lies outside the store: the user's files and models. Remembered by size and time, so a look is cheap."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path

import alignflow
from alignflow.data import artifacts
from alignflow.data.adapters import BASE, find_base, is_adapter
from alignflow.data.constitution import BUILT_IN, constitution_files
from alignflow.data.errors import UserError

PROMPTS = Path(alignflow.__file__).parent / "models" / "judges" / "prompts"


class ContentDigests:
    """Maps a recipe's paths to digests of their bytes; one small database in the store remembers them."""

    def __init__(self, root: Path):
        self._database = sqlite3.connect(root / "content.sqlite", timeout=60)
        self._database.execute("create table if not exists files (path text primary key, size int, mtime int, digest text)")

    def of(self, name: str) -> str:
        """Digest of a file, a directory, a built-in rubric or prompt, a Hub id, or `package.module:Class`."""
        path = Path(name)
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file, path)]
            digests = {str(file.relative_to(path)): self._file(file) for file in files}
            if is_adapter(path) and BASE not in digests:  # an adapter that was not made here may lie apart from its base
                digests["base"] = self.of(str(find_base(path)))
            return artifacts.digest_of(digests)
        if path.suffix in (".yaml", ".yml") or (BUILT_IN / f"{name}.yaml").is_file():
            return artifacts.digest_of({str(index): self._file(file) for index, file in enumerate(constitution_files(name))})
        if path.is_file():
            return self._file(path)
        if ":" in name:
            return self._module(name)
        built_in = PROMPTS / f"{name}.j2"
        return self._file(built_in) if "/" not in name and built_in.is_file() else self._hub(name)

    def _file(self, path: Path) -> str:
        found, name = path.stat(), str(path.absolute())
        row = self._database.execute("select size, mtime, digest from files where path = ?", (name,)).fetchone()
        if row and row[:2] == (found.st_size, found.st_mtime_ns):
            return str(row[2])
        digest = artifacts.file_digest(path)
        with self._database:
            self._database.execute("insert or replace into files values (?, ?, ?, ?)", (name, found.st_size, found.st_mtime_ns, digest))
        return digest

    def _module(self, name: str) -> str:
        try:
            spec = importlib.util.find_spec(name.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.origin:
            raise UserError("no such Python module", where=name, do="is its directory on PYTHONPATH?")
        return self._file(Path(spec.origin))

    def _hub(self, name: str) -> str:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError("no such file or directory", where=name, do="check the path; relative ones start at the recipe's directory")
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            api = HfApi()
            info = api.model_info(name) if not self._is_dataset(api, name) else api.dataset_info(name)
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
            raise UserError(
                f"neither a local path nor a Hub id that can be reached ({type(error).__name__})", where=name,
                do="check the spelling; relative paths start at the recipe's directory",
            ) from None  # fmt: skip
        return f"hub:{name}@{info.sha}"

    @staticmethod
    def _is_dataset(api, name: str) -> bool:  # type: ignore[no-untyped-def]
        return bool(api.repo_exists(name, repo_type="dataset")) and not api.repo_exists(name)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
