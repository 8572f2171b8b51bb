"""Digests of what lies outside the store: the user's files and models. Remembered by size and time, so a look is cheap."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import sqlite3
from pathlib import Path

import alignflow
from alignflow.data import artifacts
from alignflow.data.adapters import BASE, find_base, is_adapter
from alignflow.data.constitution import constitution_files
from alignflow.data.errors import UserError
from alignflow.data.host import this_host
from alignflow.data.model_directory import check_model_path
from alignflow.data.sources.files import inside, is_pattern, matched

PROMPTS = Path(alignflow.__file__).parent / "models" / "judges" / "prompts"


class ContentDigests:
    """Maps a recipe's paths to digests of their bytes, and remembers them in the store.

    Args:
        root: The store's directory.
        shared: Whether several machines use it.
    """

    def __init__(self, root: Path, shared: bool = False):
        self._memory: _Database | _Files = _Files(root / "content" / this_host().file_name) if shared else _Database(root)

    def of(self, kind: str, name: str, revision: str | None = None) -> str:
        """What enters the key in place of a name.

        Args:
            kind: What it names: path, model, constitution, question, name_or_file (see `data.configs.base`) or module.
            name: A file, directory or Hub id; a built-in name; `package.module:Class`.
            revision: Branch, tag or commit of a Hub id, which gives `hub:ID@COMMIT`.

        Raises:
            UserError: there is no such thing, or a directory that should hold a model does not.
        """
        if kind == "path":
            return self._path(name, revision)
        if kind == "model":
            check_model_path(Path(name))
            return self._path(name, revision)
        return {"constitution": self._constitution, "question": self._question, "name_or_file": self._name_or_file, "module": self._module}[
            kind
        ](name)

    def _path(self, name: str, revision: str | None) -> str:
        path = Path(name)
        if path.is_dir():
            digests = {within: self._file(file) for within, file in inside(path).items()}
            if is_adapter(path) and BASE not in digests:  # an adapter that was not made here may lie apart from its base
                digests["base"] = self._path(str(find_base(path)), None)
            return artifacts.digest_of(digests)
        if is_pattern(name):
            digests = {within: self._file(file) for within, file in matched(name).items()}
            if not digests:
                raise UserError("no file matches", where=name, do="check the pattern; a relative one starts at the recipe's directory")
            return artifacts.digest_of(digests)
        return self._file(path) if path.is_file() else self._hub(name, revision)

    def _constitution(self, name: str) -> str:
        return artifacts.digest_of({str(index): self._file(file) for index, file in enumerate(constitution_files(name))})

    def _question(self, name: str) -> str:
        built_in = PROMPTS / f"{name}.j2"
        if "/" not in name and built_in.is_file():
            return self._file(built_in)
        if not Path(name).is_file():
            known = ", ".join(sorted(path.stem for path in PROMPTS.glob("*.j2")))
            raise UserError(
                f"no judge prompt {name!r}", where="judge.options.prompt", do=f"built-in: {known}; or give the path of a Jinja file"
            )
        return self._file(Path(name))

    def _name_or_file(self, name: str) -> str:
        return self._file(Path(name)) if Path(name).is_file() else name

    def _file(self, path: Path) -> str:
        found, name = path.stat(), str(path.absolute())
        if digest := self._memory.get(name, found.st_size, found.st_mtime_ns):
            return digest
        digest = artifacts.file_digest(path)
        self._memory.put(name, found.st_size, found.st_mtime_ns, digest)
        return digest

    def _module(self, name: str) -> str:
        try:
            spec = importlib.util.find_spec(name.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.origin:
            raise UserError("no such Python module", where=name, do="is its directory on PYTHONPATH?")
        return self._file(Path(spec.origin))

    def _hub(self, name: str, revision: str | None) -> str:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError("no such file or directory", where=name, do="check the path; relative ones start at the recipe's directory")
        from huggingface_hub import HfApi

        try:
            api = HfApi()
            look_up = api.dataset_info if self._is_dataset(api, name) else api.model_info
            info = look_up(name, revision=revision)
        except Exception as error:  # noqa: BLE001 (the Hub's client raises many kinds; all mean that it cannot be had)
            raise UserError(
                f"neither a local path nor a Hub id that can be reached ({type(error).__name__})", where=name,
                do="check the spelling; relative paths start at the recipe's directory",
            ) from None  # fmt: skip
        return f"hub:{name}@{info.sha}"

    @staticmethod
    def _is_dataset(api, name: str) -> bool:  # type: ignore[no-untyped-def]
        return bool(api.repo_exists(name, repo_type="dataset")) and not api.repo_exists(name)


class _Database:
    """Digests of files by path, size and time, in one small database: for a store of one machine."""

    def __init__(self, root: Path):
        self._database = sqlite3.connect(root / "content.sqlite", timeout=60)
        self._database.execute("create table if not exists files (path text primary key, size int, mtime int, digest text)")

    def get(self, name: str, size: int, mtime: int) -> str:
        row = self._database.execute("select size, mtime, digest from files where path = ?", (name,)).fetchone()
        return str(row[2]) if row and row[:2] == (size, mtime) else ""

    def put(self, name: str, size: int, mtime: int, digest: str) -> None:
        with self._database:
            self._database.execute("insert or replace into files values (?, ?, ?, ?)", (name, size, mtime, digest))


class _Files:
    """The same in one file each, committed by a rename: SQLite's locks do not hold on a network mount.

    Each host has a directory of its own, because one path may be another file on another machine.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, name: str, size: int, mtime: int) -> str:
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._file(name).read_text())
            return str(known["digest"]) if known["file"] == [name, size, mtime] else ""
        return ""

    def put(self, name: str, size: int, mtime: int, digest: str) -> None:
        temporary = self._directory / f".{secrets.token_hex(8)}"
        temporary.write_text(json.dumps({"file": [name, size, mtime], "digest": digest}))
        os.replace(temporary, self._file(name))

    def _file(self, name: str) -> Path:
        return self._directory / f"{artifacts.text_digest(name)[:40]}.json"
