"""What a recipe may name: one file per table. Tables without torch: flows, command line, forms, docs and completeness tests read them.

A row holds a dotted address (`package.module:function`) that only the worker resolves; a test resolves them all.
"""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.base import Part, PartWithOptions, look_up, parse_options
from alignflow.data.catalogue.evaluators import EVALUATORS, Evaluator
from alignflow.data.catalogue.families import FAMILIES, Family, Feed
from alignflow.data.catalogue.formats import FORMATS, Format
from alignflow.data.catalogue.generators import GENERATORS, GeneratorRow
from alignflow.data.catalogue.judges import JUDGES, JudgeRow
from alignflow.data.catalogue.method import Method
from alignflow.data.catalogue.methods import METHODS
from alignflow.data.catalogue.rewards import REWARDS, Reward
from alignflow.data.catalogue.stages import STAGES, Stage
from alignflow.data.catalogue.updates import ADVANTAGES, POLICY_LOSSES, Advantage
from alignflow.data.catalogue.verifiers import VERIFIERS, Verifier
from alignflow.data.configs.explaining import suggest

TABLES: Mapping[str, Mapping[str, Part]] = {
    "stages": STAGES,
    "methods": METHODS,
    "generators": GENERATORS,
    "judges": JUDGES,
    "formats": FORMATS,
    "evaluators": EVALUATORS,
    "families": FAMILIES,
    "advantages": ADVANTAGES,
    "policy_losses": POLICY_LOSSES,
    "rewards": REWARDS,
    "verifiers": VERIFIERS,
}

__all__ = [
    "ADVANTAGES",
    "EVALUATORS",
    "FAMILIES",
    "FORMATS",
    "GENERATORS",
    "JUDGES",
    "METHODS",
    "POLICY_LOSSES",
    "REWARDS",
    "STAGES",
    "TABLES",
    "VERIFIERS",
    "Advantage",
    "Evaluator",
    "Family",
    "Feed",
    "Format",
    "GeneratorRow",
    "JudgeRow",
    "Method",
    "Part",
    "PartWithOptions",
    "Reward",
    "Stage",
    "Verifier",
    "look_up",
    "parse_options",
    "suggest",
]
