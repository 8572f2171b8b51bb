"""Code that has a version though no recipe names it, or names it under `engine`: engines, and what several stages share.

A stage inherits the versions of all that its body reaches; `versions.lock.json` says what that is. Raise the `version` of a row
here, or of a row of the catalogue, when a change of the code behind it changes results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data import catalogue
from alignflow.data.catalogue import Part


@dataclass(frozen=True)
class Shared:
    """Code behind several stages that changes for one reason.

    Attributes:
        members: Its modules, and single symbols `module:name` of modules that belong to others.
        summary: One line about it.
        version: Raised when its results change.
    """

    members: tuple[str, ...]
    summary: str
    version: str = "1"


CATALOGUE = (
    "base",
    "evaluators",
    "families",
    "formats",
    "generators",
    "judges",
    "methods",
    "rewards",
    "stages",
    "updates",
    "verifiers",
)
"""The modules of the catalogue: what its rows are; a row itself stands behind its own version."""

ENGINES: Mapping[str, Part] = {
    "torch": Part("alignflow.models.engines.torch_engine:TorchEngine", "Plain torch in one process."),
    "deepspeed": Part(
        "alignflow.models.engines.deepspeed_engine:DeepSpeedEngine", "DeepSpeed: several processes, ZeRO, offloading."
    ),
}

PARTS: Mapping[str, Shared] = {
    "common": Shared(
        (
            "alignflow.data.catalogue",
            *(f"alignflow.data.catalogue.{table}" for table in CATALOGUE),
            "alignflow.data.shared_parts",
            "alignflow.data.errors",
            "alignflow.data.paths",
            "alignflow.data.printable",
            "alignflow.data.artifacts",
            "alignflow.data.seals",
            "alignflow.data.host",
            "alignflow.data.run",
            "alignflow.data.adapters",
            "alignflow.data.model_references",
            "alignflow.data.reward_ensembles",
            "alignflow.data.configs.base",
            "alignflow.data.configs.explaining",
        ),
        "Catalogue, configs, errors, artifacts and the hands of a stage.",
    ),
    "process": Shared(("alignflow.worker",), "How the process of a stage is prepared, and what its body is given."),
    "records": Shared(("alignflow.data.records", "alignflow.data.tools"), "The tables of rows, and the ids of rows."),
    "matching": Shared(
        tuple(
            f"alignflow.data.records:{name}"
            for name in (
                "as_seen",
                "normalise_text",
                "prompt_text",
                "prompt_digest",
                "pair_key",
                "up_to_question",
                "is_held_out",
            )
        ),
        "When two texts or prompts count as the same, and which side of the split a prompt belongs to.",
        version="2",
    ),
    "rendering": Shared(
        (
            "alignflow.data.rendering",
            "alignflow.data.chat_templates",
            "alignflow.data.template_turns",
            "alignflow.data.token_ids",
            "alignflow.data.batch_rendering",
            "alignflow.data.text_pieces",
            "alignflow.data.word_ids",
            "alignflow.data.encoded_kinds",
            "alignflow.data.encoded_rows:AnswerIds",
            "alignflow.data.written",
            "alignflow.data.tool_forms",
            "alignflow.data.tool_turns",
            "alignflow.data.template_memory",
            "alignflow.data.template_shapes",
            "alignflow.data.token_counts",
        ),
        "Conversations to token ids and back.",
        version="3",
    ),
    "sources": Shared(
        (
            "alignflow.data.sources.base",
            "alignflow.data.sources.reading",
            "alignflow.data.sources.files",
            "alignflow.data.sources.soundness",
            "alignflow.data.sources.arrow",
            "alignflow.data.sources.columns",
            "alignflow.data.sources.conversations",
            "alignflow.data.sources.decoding",
            "alignflow.data.sources.delimited",
            "alignflow.data.sources.json_files",
            "alignflow.data.sources.labels",
            "alignflow.data.sources.meanings",
            "alignflow.data.sources.packing",
            "alignflow.data.sources.passages",
            "alignflow.data.sources.prompts",
            "alignflow.data.sources.splits",
            "alignflow.data.sources.table_kinds",
            "alignflow.data.sources.tool_calls",
            "alignflow.data.sources.transcripts",
            "alignflow.data.sources.turns",
            "alignflow.data.sources.hermes",
            "alignflow.data.sources.written_lists",
        ),
        "Reading of raw files, whatever their format.",
        version="5",
    ),
    "own_code": Shared(
        ("alignflow.data.own_module", "alignflow.data.own_methods", "alignflow.data.own_options"),
        "Reading and loading of the user's own code.",
    ),
    "weights": Shared(
        (
            "alignflow.models.loading",
            "alignflow.models.adapters",
            "alignflow.models.checkpoints",
            "alignflow.models.engines.group",
            "alignflow.models.engines.partitioned",
            "alignflow.models.engines.base:share_out_frozen",
            "alignflow.models.engines.deepspeed_engine:share_out",
            "alignflow.models.engines.deepspeed_engine:partitioned_from_the_start",
        ),
        "Models loaded and saved: whole, as adapters, in parts over processes.",
    ),
    "forward": Shared(
        (
            "alignflow.models.batching",
            "alignflow.models.attention",
            "alignflow.models.flash",
            "alignflow.models.backbone",
            "alignflow.models.head",
            "alignflow.models.token_statistics",
            "alignflow.models.policy",
            "alignflow.models.in_step",
        ),
        "Packed rows through a model: log-probabilities and other figures of tokens.",
        version="2",
    ),
    "reward_model": Shared(("alignflow.models.reward_model",), "Scores of a reward model.", version="2"),
    "reward_ensemble": Shared(
        (
            "alignflow.models.reward_ensemble",
            "alignflow.models.rewards.ensemble_scores",
        ),
        "Scores of several reward models as one.",
    ),
    "training": Shared(
        (
            "alignflow.models.trainers.fit",
            "alignflow.models.trainers.passes",
            "alignflow.models.trainers.held_out",
            "alignflow.models.trainers.saved_state",
            "alignflow.models.trainers.kept_lines",
            "alignflow.models.trainers.event_files",
            "alignflow.models.engines.base",
            "alignflow.models.engines.parts",
            "alignflow.models.recompute",
        ),
        "The training loop, its saved states and what all engines share.",
    ),
    "rows": Shared(
        (
            "alignflow.data.encoded_rows",
            "alignflow.data.encoded_tables",
            "alignflow.data.encoded_place",
            "alignflow.models.stored_rows",
            "alignflow.models.trainers.pairs",
            "alignflow.models.losses.base",
            "alignflow.models.trainers.sft:read_rows",
            "alignflow.models.losses.lists",
            "alignflow.models.trainers.offline_rows",
            "alignflow.models.trainers.answer_batches",
            "alignflow.models.trainers.reference_scores",
            "alignflow.models.trainers.own_reference",
            "alignflow.models.trainers.whole_step",
        ),
        "Demonstrations, pairs, labelled and ranked answers and what a reference says of them as a trainer reads them, and what offline losses share.",
        version="3",
    ),
    "journal": Shared(("alignflow.models.generation.journal",), "The journal of rows."),
    "generation": Shared(
        ("alignflow.models.generation.base", "alignflow.models.generation.chat"),
        "What all generators share: settings and seeds of rows.",
    ),
    "judging": Shared(("alignflow.models.judges.base",), "What all judges share: verdicts and candidates."),
    "judge_model": Shared(
        ("alignflow.models.judges.judge_model",), "A language model as judges use it: it reads options and writes text."
    ),
    "evaluation": Shared(("alignflow.models.evaluators.base",), "What all evaluators share: inputs and intervals."),
}

VERSIONED: Mapping[str, Mapping[str, Part | Shared]] = {
    **catalogue.TABLES,
    "engines": ENGINES,
    "parts": PARTS,
}
"""Every row that has a version, by table."""
