"""Runs that wait for a person: their records have the question, and the verdicts of gates have the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignflow.tasks.store.gates import GateLedger
from alignflow.tasks.store.run_records import WAITS, RunRecord, records

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

ASKED = "asked"
"""Verdict of a gate whose question nobody has answered yet."""


def waiting_runs(store: ArtifactStore) -> list[RunRecord]:
    """The runs whose question nobody has answered, newest first.

    A suspended run no longer waits once its flow run has a newer record: it went on, with whatever result.
    A run that ended in a terminal no longer waits once the same recipe was run again with the same settings, whole or up to the same step: that
    run has its own question.
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
    """Identifies equal requests: the recipe's name and file, the settings, and `smoke`."""
    asked = run.asked
    return "" if asked is None else repr((asked.name, asked.file, sorted(asked.settings.items()), asked.smoke))


def _part(run: RunRecord) -> tuple[str, str]:
    """The part of the recipe that a run does: its only step and its last step, empty for all."""
    return ("", "") if run.asked is None else (run.asked.only, run.asked.until)
