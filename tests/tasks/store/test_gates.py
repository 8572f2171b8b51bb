"""Verdicts of gates in a store."""

import pytest

from alignflow.data.gates import GateRecord
from alignflow.tasks.store.gates import FOLDER, GateLedger, decided, read_record

RECORD = GateRecord(
    gate="loss",
    stage="sft",
    metric="eval_loss",
    key="sft-01",
    digest="d",
    value=1.5,
    minimum=None,
    maximum=2.0,
    action="stop",
    verdict="passed",
    run="tiny",
    at="2026-01-02T03:04:05+00:00",
)


def test_verdicts_are_kept_oldest_first_and_one_that_says_nothing_new_is_not_added(store):
    ledger = GateLedger(store)
    assert ledger.records("sft-01") == []
    ledger.add(RECORD)
    ledger.add(RECORD.model_copy(update={"at": "2026-02-02T03:04:05+00:00"}))
    ledger.add(RECORD.model_copy(update={"verdict": "stopped", "value": 3.0}))
    assert [record.verdict for record in ledger.records("sft-01")] == ["passed", "stopped"]


def test_a_damaged_verdict_is_left_out_and_told(store, capsys):
    ledger = GateLedger(store)
    ledger.add(RECORD)
    (file,) = (store.root / FOLDER / "sft-01").glob("*.json")
    file.write_bytes(file.read_bytes().replace(b"passed", b"warned"))
    assert ledger.records("sft-01") == [] and "a verdict is ignored" in capsys.readouterr().err
    with pytest.raises(ValueError):
        read_record(file)


def test_a_verdict_of_an_older_alignflow_is_taken_as_it_stands(tmp_path):
    (tmp_path / "a.json").write_text(RECORD.model_dump_json())
    assert read_record(tmp_path / "a.json") == RECORD


def test_a_verdict_in_one_line():
    assert decided(RECORD) == "passed 2026-01-02 03:04:05 (1.5; at most 2)"
    asked = RECORD.model_copy(update={"verdict": "approved", "who": "ada", "comment": "fine", "value": None})
    assert decided(asked) == "approved by ada 2026-01-02 03:04:05, overriding it (not measured; at most 2): fine"
