"""Runs that wait for a person, as the store knows them: their records have the question, and the ledger of gates has the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignflow.tasks.store.gates import GateLedger
from alignflow.tasks.store.run_records import WAITS, RunRecord, records

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

ASKED = "asked"
"""The verdict of a gate that nobody has answered yet."""


def waiting_runs(store: ArtifactStore) -> list[RunRecord]:
    """The runs whose question nobody has answered, newest first.

    A suspended run waits no more once its flow run has a newer record: it went on, whatever came of it.
    A run that ended in a terminal waits no more once the same recipe was run again with the same settings, whole or up to the same step: that
    run asks for itself.
    """
    ledger, seen, went_on, found = GateLedger(store), set[tuple[str, tuple[str, str]]](), set[str](), []
    for run in records(store):
        same, part = _same_again(run), _part(run)
        question = run.question if run.state == WAITS else None
        if question and (
            run.flow_run not in went_on if question.suspended else not {(same, ("", "")), (same, part)} & seen
        ):
            verdicts = [record.verdict for record in ledger.records(question.key) if record.gate == question.gate]
            if verdicts and verdicts[-1] == ASKED:
                found.append(run)
        seen.add((same, part))
        went_on.add(run.flow_run)
    return found


def _same_again(run: RunRecord) -> str:
    """What two runs have in common that ask for the same: the recipe's name and file, the settings, and whether it is done in small."""
    asked = run.asked
    return "" if asked is None else repr((asked.name, asked.file, sorted(asked.settings.items()), asked.smoke))


def _part(run: RunRecord) -> tuple[str, str]:
    """The part of the recipe that a run does: its only and its last step, empty for the whole."""
    return ("", "") if run.asked is None else (run.asked.only, run.asked.until)
