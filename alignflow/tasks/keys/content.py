"""Digests of files outside the store: the user's data and models. A digest is remembered under the file's metadata, so that a check
is cheap: size, mtime, and the two that no program can reset, ctime and inode."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import alignflow
from alignflow.data import artifacts
from alignflow.data.adapters import BASE, find_base, is_adapter
from alignflow.data.constitution import constitution_files
from alignflow.data.errors import UserError, cut
from alignflow.data.host import this_host
from alignflow.data.model_directory import check_model_path
from alignflow.data.own_module import source_file
from alignflow.data.paths import is_file
from alignflow.data.principle_files import principles_path
from alignflow.data.seals import sealed, unsealed
from alignflow.data.sources.files import inside, is_pattern, matched
from alignflow.tasks.store.integrity import tell

LOCKED_S = 5.0  # seconds that another process may hold the cache before this one works without it
FINE_NS, COARSE_NS = (
    50_000_000,
    3_000_000_000,
)  # clock resolution: two changes of a file within this time can get the same timestamp; on local disks, and on others
PROMPTS = Path(alignflow.__file__).parent / "models" / "judges" / "prompts"


class ContentDigests:
    """Maps a recipe's paths to digests of their bytes, and remembers them in the store.

    Args:
        root: The store's directory.
        shared: Whether several machines use it.
    """

    def __init__(self, root: Path, shared: bool = False):
        if not os.access(root, os.W_OK):  # a store that is only read: digests are remembered while the process lives
            self._memory: _Database | _Files = _Database(Path(":memory:"))
        else:
            self._memory = (
                _Files(root / "content" / this_host().file_name) if shared else _Database(root / "content.sqlite")
            )

    def of(self, kind: str, name: str, revision: str | None = None) -> str:
        """The digest that replaces a name in the key.

        Args:
            kind: What the name is: path, model, constitution, principles, question, name_or_file (see `data.configs.base`) or module.
            name: A file, directory or Hub id; a built-in name; `package.module:Class`.
            revision: Branch, tag or commit of a Hub id, which gives `hub:ID@COMMIT`.

        Raises:
            UserError: it does not exist, or a directory that should hold a model does not.
        """
        try:
            return self._of(kind, name, revision)
        except OSError as error:  # no permission, an invalid name, a failing disk
            raise UserError(
                f"it cannot be read: {error.strerror or error}",
                where=cut(name),
                do="check the path and its permissions",
            ) from None

    def _of(self, kind: str, name: str, revision: str | None) -> str:
        if kind == "path":
            return self._path(name, revision)
        if kind == "model":
            check_model_path(Path(name))
            return self._path(
                name, revision, links=False
            )  # a model is the files in its folder, not in folders that it links to
        return {
            "constitution": self._constitution,
            "principles": lambda name: self._file(principles_path(name)),
            "question": self._question,
            "name_or_file": self._name_or_file,
            "module": self._module,
        }[kind](name)

    def _path(self, name: str, revision: str | None, links: bool = True) -> str:
        path = Path(name)
        if path.is_dir():
            digests = {within: self._file(file) for within, file in inside(path, links).items()}
            if (
                is_adapter(path) and BASE not in digests
            ):  # an adapter that was not made here may be stored apart from its base
                digests["base"] = self._path(str(find_base(path)), None, links=False)
            return artifacts.digest_of(digests)
        if is_pattern(name):
            digests = {within: self._file(file) for within, file in matched(name).items()}
            if not digests:
                raise UserError(
                    "no file matches",
                    where=name,
                    do="check the pattern; a relative one starts at the recipe's directory",
                )
            return artifacts.digest_of(digests)
        if path.exists() and not path.is_file():
            raise UserError(
                "this is neither a file nor a folder", where=name, do="name a regular file, or a folder of files"
            )
        return self._file(path) if path.is_file() else self._hub(name, revision)

    def _constitution(self, name: str) -> str:
        return artifacts.digest_of(
            {str(index): self._file(file) for index, file in enumerate(constitution_files(name))}
        )

    def _question(self, name: str) -> str:
        built_in = PROMPTS / f"{name}.j2"
        if "/" not in name and built_in.is_file():
            return self._file(built_in)
        if not Path(name).is_file():
            known = ", ".join(sorted(path.stem for path in PROMPTS.glob("*.j2")))
            raise UserError(
                f"no judge prompt {name!r}",
                where="judge.options.prompt",
                do=f"built-in: {known}; or give the path of a Jinja file",
            )
        return self._file(Path(name))

    def _name_or_file(self, name: str) -> str:
        return self._file(Path(name)) if is_file(Path(name)) else name

    def _file(self, path: Path) -> str:
        name, now, found = str(path.absolute()), time.time_ns(), path.stat()
        if digest := self._memory.get(name, stamp(found)):
            return digest
        digest = artifacts.file_digest(path)
        if settled(found, now):
            self._memory.put(name, stamp(found), digest)
        return digest

    def _module(self, name: str) -> str:
        return self._file(source_file(name))

    def _hub(self, name: str, revision: str | None) -> str:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(
                "no such file or directory",
                where=name,
                do="check the path; relative ones start at the recipe's directory",
            )
        from huggingface_hub import HfApi

        try:
            api = HfApi()
            look_up = api.dataset_info if self._is_dataset(api, name) else api.model_info
            info = look_up(name, revision=revision)
        except Exception as error:  # noqa: BLE001 (the Hub's client raises many kinds; all mean that it is not available)
            raise UserError(
                f"neither a local path nor a Hub id that can be reached ({type(error).__name__})",
                where=name,
                do="check the spelling; relative paths start at the recipe's directory",
            ) from None
        return f"hub:{name}@{info.sha}"

    @staticmethod
    def _is_dataset(api, name: str) -> bool:  # type: ignore[no-untyped-def]
        return bool(api.repo_exists(name, repo_type="dataset")) and not api.repo_exists(name)


def stamp(found: os.stat_result) -> str:
    """Metadata that changes whenever the file changes, without reading the file. A program can reset a file's size and mtime,
    but not ctime and inode, which the kernel sets."""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_dev}:{found.st_ino}"


def settled(found: os.stat_result, now_ns: int) -> bool:
    """Whether every change from `now_ns` on shows in the file's stamp: the last change is longer ago than the file system's clock resolution."""
    return now_ns - found.st_ctime_ns > (FINE_NS if found.st_ctime_ns % 1_000_000_000 else COARSE_NS)


class _Database:
    """Digests of files by path and stamp in a small database, for a store of one machine.

    It is a cache. If it is damaged, it is removed and made again. If it stays locked or cannot be written, this
    process works without it. Each row has its own digest; a row that was altered is ignored.
    """

    def __init__(self, path: Path):
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._attempt(self._open)

    def get(self, name: str, stamp: str) -> str:
        row = self._attempt(lambda: self._select(name))
        return str(row[1]) if row and row == (stamp, row[1], row_seal(name, *row[:2])) else ""

    def put(self, name: str, stamp: str, digest: str) -> None:
        self._attempt(lambda: self._insert((name, stamp, digest, row_seal(name, stamp, digest))))

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, timeout=LOCKED_S)
        self._database.execute(
            "drop table if exists digests"
        )  # written by an older alignflow, which used only size and mtime
        self._database.execute(
            "create table if not exists stamped (path text primary key, stamp text, digest text, seal text)"
        )

    def _select(self, name: str) -> Any:
        return (
            self._database
            and self._database.execute("select stamp, digest, seal from stamped where path = ?", (name,)).fetchone()
        )

    def _insert(self, row: tuple[Any, ...]) -> None:
        if self._database:
            with self._database:
                self._database.execute("insert or replace into stamped values (?, ?, ?, ?)", row)

    def _attempt(self, what: Callable[[], Any]) -> Any:
        """Run an operation on the database; if it is damaged, once more on a new one."""
        for last in (False, True):
            try:
                return what()
            except (sqlite3.Error, ValueError, OverflowError) as error:  # text that is not UTF-8 raises ValueError
                self._close()
                if (
                    last
                    or _is_busy(error)
                    or not os.access(self._path, os.W_OK)
                    or not os.access(self._path.parent, os.W_OK)
                ):
                    tell(f"content.sqlite is not used by this process ({error}): the recipe's files are hashed again")
                    return None
                tell(f"content.sqlite is damaged ({error}): it was removed, and the recipe's files are hashed again")
                remove_database(self._path)
                with contextlib.suppress(sqlite3.Error):
                    self._open()
        return None

    def _close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
        self._database = None


def row_seal(name: Any, stamp: Any, digest: Any) -> str:
    """The digest of a cache row itself."""
    return artifacts.text_digest(artifacts.canonical_json([name, stamp, digest]))[:32]


def damaged_rows(path: Path) -> list[str]:
    """Paths of cache rows that are damaged; raises sqlite3.Error if the database is damaged."""
    with contextlib.closing(
        sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=LOCKED_S)
    ) as database:
        wrong = [str(row[0]) for row in database.execute("pragma integrity_check") if row[0] != "ok"]
        if not database.execute(
            "select 1 from sqlite_master where name = 'stamped'"
        ).fetchone():  # an older alignflow made it
            return wrong
        rows = database.execute("select path, stamp, digest, seal from stamped").fetchall()
    return wrong + [str(row[0]) for row in rows if row_seal(*row[:3]) != row[3]]


def remove_database(path: Path) -> None:
    """Remove a SQLite database and its journal files."""
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and any(
        word in str(error) for word in ("locked", "busy", "full", "unable to open")
    )


class _Files:
    """The same cache with one file per digest, committed by rename: SQLite's locks do not work on a network mount.

    Each host has its own directory, because the same path may be another file on another machine. Each file has its own digest;
    a damaged file is written again. If nothing can be written, the user's files are hashed each time.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, name: str, stamp: str) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = unsealed(self._file(name).read_bytes())
            return str(known["digest"]) if known["file"] == [name, stamp] else ""
        return ""

    def put(self, name: str, stamp: str, digest: str) -> None:
        temporary = self._directory / f".{secrets.token_hex(8)}"
        try:
            temporary.write_bytes(sealed({"file": [name, stamp], "digest": digest}))
            os.replace(temporary, self._file(name))
        except OSError as error:
            tell(f"digests of the recipe's files are not remembered ({error.strerror})")

    def _file(self, name: str) -> Path:
        return self._directory / f"{artifacts.text_digest(name)[:40]}.json"
