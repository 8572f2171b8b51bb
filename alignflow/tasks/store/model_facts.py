"""Facts for a model's card from the store: where the model comes from, and its measurements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from alignflow.data.artifacts import Manifest
from alignflow.data.dataset_cards import CARD, bare, facts_of_card
from alignflow.data.errors import StoreError
from alignflow.data.model_cards import ModelFacts
from alignflow.data.report.body import FinishedStep
from alignflow.data.report.comparison import Measured, measured_of
from alignflow.data.report.figures import method_of
from alignflow.data.reward_ensembles import is_ensemble
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.compare import lineage

_HUB = re.compile(r"hub:(?P<name>.+)@\w+")
TRAINED_ON = "held-out rows of its training data"
COMPARED_ON = "held-out prompts, against the SFT model"


def model_facts(store: ArtifactStore, manifest: Manifest) -> ModelFacts:
    """The facts for the card of a model; raises DamagedArtifactError."""
    payload = store.directory(manifest.key) / "payload"
    text = (payload / CARD).read_text(encoding="utf-8") if (payload / CARD).is_file() else ""
    title, facts = facts_of_card(text)
    facts = {name: text for name, text in facts.items() if not name.startswith("licences of")}
    try:
        before = list(lineage(manifest, store).values())
    except StoreError:  # the model exists, but its inputs are gone
        before = [manifest]
        facts["lineage"] = "no longer in the store, so that the base model and the data are not known"
    metrics, measured_on = _metrics(store, manifest)
    method = method_of(manifest)
    return ModelFacts(
        title=title or f"Model of the step {manifest.stage}",
        about=_about(text) or "Made by alignflow.",
        facts={**facts, "step": manifest.stage, "artifact": manifest.key, "digest": manifest.digest},
        kind="ensemble" if is_ensemble(payload) else manifest.kind,
        tags=[manifest.stage, *([method] if method else [])],
        licences=manifest.licences,
        base_models=list(_hub_ids(found for found in before if found.stage == "init")),
        datasets=list(_hub_ids(found for found in before if found.stage == "prepare")),
        metrics=metrics,
        measured_on=measured_on,
    )


def _about(card: str) -> str:
    """The sentence under the heading of the card that the stage wrote; empty if there is none."""
    lines = [line for line in card.splitlines() if line and not line.startswith(("# ", "- "))]
    return bare(lines[0]) if lines else ""


def _metrics(store: ArtifactStore, manifest: Manifest) -> tuple[Mapping[str, Measured], str]:
    """The metrics of the newest evaluation of this model, or else of its training, and what they are measured on."""
    for evaluation in store.manifests("evaluate"):
        aligned = evaluation.inputs.get("aligned")
        if aligned is not None and aligned.key == manifest.key:
            return measured_of(FinishedStep("evaluate", store.directory(evaluation.key) / "payload")), COMPARED_ON
    found = measured_of(FinishedStep(manifest.stage, store.directory(manifest.key) / "payload"))
    return {name: value for name, value in found.items() if name.startswith("eval_")}, TRAINED_ON


def _hub_ids(manifests: Iterable[Manifest]) -> Iterator[str]:
    """Hub ids that these steps loaded, each once."""
    values = [value for manifest in manifests for value in manifest.components.values() if isinstance(value, str)]
    yield from dict.fromkeys(found["name"] for value in values if (found := _HUB.fullmatch(value)))
