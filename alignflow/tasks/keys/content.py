"""Digests of what lies outside the store: the user's files and models. Remembered by what the file system says of a file, so a look
is cheap: size, time of writing, and what nobody can set back, the time of the last change of any kind and the inode."""

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

LOCKED_S = 5.0  # how long another process may hold the cache before this one works without it
FINE_NS, COARSE_NS = (
    50_000_000,
    3_000_000_000,
)  # how long two changes of a file may have one time: clocks of local disks, and of others
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
        """What enters the key in place of a name.

        Args:
            kind: What it names: path, model, constitution, principles, question, name_or_file (see `data.configs.base`) or module.
            name: A file, directory or Hub id; a built-in name; `package.module:Class`.
            revision: Branch, tag or commit of a Hub id, which gives `hub:ID@COMMIT`.

        Raises:
            UserError: there is no such thing, or a directory that should hold a model does not.
        """
        try:
            return self._of(kind, name, revision)
        except OSError as error:  # no permission, a name that no file system takes, a disk that fails
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
            )  # a model is what lies in its folder, and not in what this links to
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
            ):  # an adapter that was not made here may lie apart from its base
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
                "it is neither a file nor a folder", where=name, do="name a regular file, or a folder of them"
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
        except Exception as error:  # noqa: BLE001 (the Hub's client raises many kinds; all mean that it cannot be had)
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
    """What tells a file from its earlier and later states without reading it. A program can set a file's size and time of writing
    back to what they were; the time of the last change (ctime) and the inode are the kernel's."""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_dev}:{found.st_ino}"


def settled(found: os.stat_result, now_ns: int) -> bool:
    """Whether every change from `now_ns` on shows in the file's stamp: its last one is longer ago than its file system's clock is coarse."""
    return now_ns - found.st_ctime_ns > (FINE_NS if found.st_ctime_ns % 1_000_000_000 else COARSE_NS)


class _Database:
    """Digests of files by path and stamp, in one small database: for a store of one machine.

    It is a cache. Where it is damaged it is removed and made anew; where it is locked for long, or cannot be written, this
    process works without it. Each row carries a digest of its own: a changed one is forgotten.
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
        )  # an older alignflow's, which knew size and time of writing alone
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
        """Do something with the database; where it is damaged, once more with a new one."""
        for last in (False, True):
            try:
                return what()
            except (sqlite3.Error, ValueError, OverflowError) as error:  # text that is no UTF-8 is a ValueError
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
    """The digest that a row of the cache carries for itself."""
    return artifacts.text_digest(artifacts.canonical_json([name, stamp, digest]))[:32]


def damaged_rows(path: Path) -> list[str]:
    """Paths of the rows of the cache that cannot be trusted; raises sqlite3.Error where it is no whole database."""
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
    """Remove a SQLite database with what stands beside it."""
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and any(
        word in str(error) for word in ("locked", "busy", "full", "unable to open")
    )


class _Files:
    """The same in one file each, committed by a rename: SQLite's locks do not hold on a network mount.

    Each host has a directory of its own, because one path may be another file on another machine. A file carries a digest;
    one that is damaged is written anew, and where nothing can be written the files are hashed each time.
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
