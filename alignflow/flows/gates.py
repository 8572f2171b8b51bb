"""Checks the gates of a run after each step, found or made. No Prefect: the function that asks a person is passed in."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime

from alignflow.data.artifacts import ArtifactRef, Manifest
from alignflow.data.catalogue import suggest
from alignflow.data.configs.gates import GateConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import ApprovalNeededError, DamagedArtifactError, GateStoppedError, RecipeError
from alignflow.data.gates import FAILED, LETS_ON, GateRecord, approval_holds, finding, is_met
from alignflow.data.step_names import matching
from alignflow.flows.calls import Step
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gates import GateLedger, decided

Answer = tuple[bool, str, str]
"""A person's answer: yes or no, who, comment."""


class Gatekeeper:
    """Checks the gates of one run.

    Args:
        recipe: Its gates and name.
        approved: Labels of gates that the user approves in advance.
        store: The store of metrics and verdicts.
        hears: Called once with each verdict.
        ask: Asks a person about a gate; takes its config and the record so far. It returns only after an
            answer, or None if nobody can be asked.

    Raises:
        RecipeError: `approved` names no gate of the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        approved: tuple[str, ...],
        store: ArtifactStore,
        hears: Callable[[GateRecord], None],
        ask: Callable[[GateConfig, GateRecord], Answer | None],
    ):
        self._recipe, self._approved, self._store, self._hears, self._ask = recipe, approved, store, hears, ask
        self._ledger = GateLedger(store)
        self._heard: set[tuple[str, str]] = set()
        check_approved(recipe, approved)

    def lets_on(self, name: str, ref: ArtifactRef, steps: Collection[str] = ()) -> bool:
        """Whether the run continues after a step with this result; False: a gate ends it here, as finished.

        Args:
            name: The step.
            ref: Its result.
            steps: Names of all steps of the recipe. A gate on one of these names applies to that step only: a gate on `reward` applies to
                the ensemble, not to its members `reward.1` and so on.

        Raises:
            RecipeError: the step has no such metric.
            GateStoppedError: a gate stops the run, or a person refused.
            ApprovalNeededError: a gate needs a person's answer, but nobody can be asked from here.
        """
        asked = [gate for gate in self._recipe.gates if name in matching({name, *steps}, gate.stage)]
        manifest = self._store.manifest(ref.key) if asked else None
        for gate in asked:
            if manifest:
                if gate.stage != name:  # a gate on all rounds: its verdicts name the round
                    gate = gate.model_copy(update={"stage": name, "name": gate.label})
                record = self._decide(gate, manifest)
                self._write_down(record)
                if record.verdict not in LETS_ON:
                    return self._halt(gate, record)
        return True

    def _decide(self, gate: GateConfig, manifest: Manifest) -> GateRecord:
        value = self._ledger.measure(gate, manifest, self._recipe.name)
        record = new_record(gate, manifest, value, self._recipe.name)
        if is_met(gate, value):
            return record
        if gate.label in self._approved:
            return _answered(record, (True, login(), "--approve"))
        for known in reversed(self._ledger.of_gate(gate, manifest.key)):
            if approval_holds(known, gate, manifest.digest):
                return _answered(record, (True, known.who, known.comment))
        record = record.model_copy(update={"verdict": FAILED[gate.action]})
        if record.verdict == "asked":
            self._ledger.add(record)  # before the process may end: lineage shows that an answer is pending
            answer = self._ask(gate, record)
            return _answered(record, answer) if answer else record
        return record

    def _write_down(self, record: GateRecord) -> None:
        self._ledger.add(record)
        if (record.gate, record.digest) not in self._heard:
            self._heard.add((record.gate, record.digest))
            self._hears(record)

    def _halt(self, gate: GateConfig, record: GateRecord) -> bool:
        text = finding(gate, record.value) + (f" ({gate.why})" if gate.why else "")
        if record.verdict == "ended":
            return False
        if record.verdict == "asked":
            raise ApprovalNeededError(
                f"{text}: a person has to decide",
                where=f"gate {gate.label}",
                do=f"look at the artifact {record.key[:24]}, then run again with --approve {gate.label}",
            )
        if record.verdict == "refused":
            raise GateStoppedError(
                f"refused by {record.who}: {text}",
                where=f"gate {gate.label}",
                do=record.comment or "run again to be asked again",
            )
        raise GateStoppedError(
            text,
            where=f"gate {gate.label}",
            do=f"nothing after {gate.stage} has run; change the limit, or continue with --approve {gate.label}",
        )


def check_approved(recipe: Recipe, names: Sequence[str]) -> None:
    """Raise RecipeError with the nearest name if a name is not a gate of the recipe."""
    labels = [gate.label for gate in recipe.gates]
    for name in names:
        if name not in labels:
            do = suggest(name, labels) if labels else "the recipe has no gates"
            raise RecipeError(f"no gate {name!r} to approve", where="approve", do=do)


def new_record(gate: GateConfig, manifest: Manifest, value: float | None, run: str) -> GateRecord:
    """The record of a passed gate; the caller changes it for other verdicts."""
    return GateRecord(
        gate=gate.label,
        stage=gate.stage,
        metric=gate.metric,
        key=manifest.key,
        digest=manifest.digest,
        value=value,
        minimum=gate.minimum,
        maximum=gate.maximum,
        action=gate.action,
        verdict="passed",
        run=run,
        at=now(),
    )


def _answered(record: GateRecord, answer: Answer) -> GateRecord:
    yes, who, comment = answer
    return record.model_copy(
        update={"verdict": "approved" if yes else "refused", "who": who, "comment": comment, "at": now()}
    )


def now() -> str:
    """The time in the records' format: ISO, UTC, with microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def login() -> str:
    """Login name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return f"user {os.getuid()}"


def standing(recipe: Recipe, steps: Sequence[Step], store: ArtifactStore) -> Iterator[tuple[GateConfig, str]]:
    """Each gate of a recipe with its current verdict on each round that is in the store; raises RecipeError."""
    ledger, by_name = GateLedger(store), {step.name: step for step in steps}
    for gate in recipe.gates:
        for name in matching(by_name, gate.stage):
            step, of = by_name[name], "" if name == gate.stage else f"{name} "
            manifest = store.find(step.key) if step.state == "cached" else None
            try:
                yield gate, f"{of}{_standing(gate, manifest, ledger, recipe.name)}" if manifest else ""
            except DamagedArtifactError as damage:
                store.quarantine(damage.key, damage.what)
                yield gate, f"{of}not known: {damage.what}; {damage.key[:24]} was set aside and is made again"


def _standing(gate: GateConfig, manifest: Manifest, ledger: GateLedger, run: str) -> str:
    value = ledger.measure(gate, manifest, run)
    shown = "not measured" if value is None else f"{value:.6g}"
    if is_met(gate, value):
        return f"passes: {shown}"
    known = [record for record in ledger.of_gate(gate, manifest.key) if approval_holds(record, gate, manifest.digest)]
    return decided(known[-1]) if known else f"{shown}: {FAILED[gate.action]}"
