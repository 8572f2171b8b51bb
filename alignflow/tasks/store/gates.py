"""The verdicts of gates, stored next to the artifacts, and the values that gates measure, including new rows."""

from __future__ import annotations

import os
import time
from pathlib import Path

from alignflow.data.artifacts import Manifest, verify_file
from alignflow.data.configs.gates import GateConfig
from alignflow.data.gates import LETS_ON, NEW_ROWS, GateRecord, limits, measured
from alignflow.data.seals import UnsealedError, sealed, unsealed
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.integrity import tell

FOLDER = "gates"


class GateLedger:
    """The verdicts of gates in a store: one small file each under gates/KEY/, added by a rename and never changed."""

    def __init__(self, store: ArtifactStore):
        self._store = store

    def records(self, key: str) -> list[GateRecord]:
        """All verdicts on the artifact of a key, oldest first."""
        return _read(self._directory(key))

    def of_gate(self, gate: GateConfig, key: str) -> list[GateRecord]:
        """All verdicts of a gate on artifacts of the same stage as `key`, oldest first."""
        stage = key.rpartition("-")[0]
        found = [record for directory in (self._store.root / FOLDER).glob(f"{stage}-*") for record in _read(directory)]
        named = [record for record in found if (record.gate, record.metric) == (gate.label, gate.metric)]
        return sorted(named, key=lambda record: record.at)

    def add(self, record: GateRecord) -> None:
        """Store a verdict, unless the gate's last verdict on the artifact is the same."""
        before = [known for known in self.records(record.key) if known.gate == record.gate]
        if before and before[-1].same_verdict(record):
            return
        directory = self._directory(record.key)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}"
        temporary = directory / f".{name}"
        with open(temporary, "wb") as file:
            file.write(sealed(record.model_dump(mode="json"), indent=1))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, directory / f"{name}.json")

    def measure(self, gate: GateConfig, manifest: Manifest, run: str) -> float | None:
        """The value of a gate's metric on an artifact; `run` is the recipe's name.

        A metric `new/TABLE` counts the rows of a payload table that are not in the last artifact which the gate let
        through in a run of this name; all rows if there is none or it is no longer in the store.

        Raises:
            RecipeError: the artifact has no such metric.
        """
        tables = new_row_metrics(self._store.directory(manifest.key)) if gate.metric.startswith(NEW_ROWS) else []
        if gate.metric not in tables:
            return measured(gate, {**manifest.metrics, **dict.fromkeys(tables)})
        table = gate.metric.removeprefix(NEW_ROWS)
        ids = row_ids(self._store.directory(manifest.key), table)
        base = self._let_through(gate, manifest, run)
        return float(len(ids - (row_ids(self._store.directory(base), table) if base else set())))

    def _let_through(self, gate: GateConfig, manifest: Manifest, run: str) -> str:
        """The key of the last artifact before this one that the gate let through; empty if there is none."""
        passed = [
            record for record in self.of_gate(gate, manifest.key) if record.verdict in LETS_ON and record.run == run
        ]
        mine = [index for index, record in enumerate(passed) if record.digest == manifest.digest]
        earlier = passed[: mine[0]] if mine else passed  # a rerun must get the same value as the first run
        return earlier[-1].key if earlier else ""

    def _directory(self, key: str) -> Path:
        return self._store.root / FOLDER / key


def _read(directory: Path) -> list[GateRecord]:
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(read_record(path))
        except OSError:
            continue
        except ValueError as error:
            tell(
                f"a verdict is ignored, so its question may be asked again: gates/{directory.name}/{path.name} is damaged ({error})"
            )
    return found


def read_record(path: Path) -> GateRecord:
    """Read a verdict; raises OSError, or ValueError if it is damaged.

    Verdicts of an older alignflow have no digest and are trusted.
    """
    data = path.read_bytes()
    try:
        return GateRecord.model_validate(unsealed(data))
    except UnsealedError:
        return GateRecord.model_validate_json(data)


def tables_of(artifact: Path) -> list[str]:
    """The tables of an artifact's payload whose rows have ids, as paths without `.parquet`; raises DamagedArtifactError."""
    from pyarrow.parquet import read_schema  # a run without gates does not need it

    payload, found = artifact / "payload", []
    for path in sorted(payload.rglob("*.parquet")):
        verify_file(path)
        if "id" in read_schema(path).names:
            found.append(str(path.relative_to(payload).with_suffix("")))
    return found


def new_row_metrics(artifact: Path) -> list[str]:
    """The metrics `new/TABLE` of an artifact, in addition to those of its manifest."""
    return [f"{NEW_ROWS}{table}" for table in tables_of(artifact)]


def row_ids(artifact: Path, table: str) -> set[str]:
    """The ids of a table's rows; empty if the artifact or the table is gone. Raises DamagedArtifactError."""
    from pyarrow.parquet import read_table

    path = artifact / "payload" / f"{table}.parquet"
    if not path.is_file():
        return set()
    verify_file(path)
    return set(read_table(path, columns=["id"]).column("id").to_pylist())


def decided(record: GateRecord) -> str:
    """A verdict in one line, for lineage and plans."""
    who = f" by {record.who}" if record.who else ""
    value = "not measured" if record.value is None else f"{record.value:.6g}"
    override = ", overriding it" if record.override else ""
    said = f": {record.comment}" if record.comment else ""
    return f"{record.verdict}{who} {record.at[:19].replace('T', ' ')}{override} ({value}; {limits(record)}){said}"
