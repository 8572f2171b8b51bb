"""The card of a labelled data set: who labelled it and how, and the measured quality of the labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.artifacts import artifact_of, checked_manifest
from alignflow.data.configs.generation import LabelConfig
from alignflow.data.dataset_cards import CARD, card_of, tables_of
from alignflow.data.own_module import short
from alignflow.models.generation.base import generator_identity


def write_label_card(
    config: LabelConfig, fingerprint: str, statistics: Mapping[str, Any], out: Path, *inputs: Path | None
) -> None:
    """Write the card next to the tables in `out`.

    Args:
        config: The step's config.
        fingerprint: What the judge's labels depend on besides its options: a digest of its prompt and its model, or of its files.
        statistics: Content of statistics.json and judge_report.json.
        out: The payload, with its tables.
        inputs: Artifacts of the input data, for their licences.
    """
    text = card_of(
        tables_of(out),
        _licences(*inputs),
        "Preference data",
        _facts(config, fingerprint, statistics),
        ("preference", "rlaif"),
    )
    (out / CARD).write_text(text, encoding="utf-8")


def _facts(config: LabelConfig, fingerprint: str, statistics: Mapping[str, Any]) -> dict[str, str]:
    judge, name = config.judge, short(config.judge.name)
    facts = {"judge": f"{name}, {_version(judge.name)}"}
    if judge.options:
        facts["options of the judge"] = json.dumps(
            _without_place(judge.options), sort_keys=True, ensure_ascii=False, default=str
        )
    if engine := generator_identity(judge.generator):
        facts["engine of the judge"] = json.dumps(engine, sort_keys=True, default=str)
    if fingerprint:
        facts["digest of the judge's prompt and model"] = fingerprint
    facts["judged pairs"] = str(statistics["judged"])
    facts["left out"] = (
        ", ".join(f"{count} {reason}" for reason, count in sorted(statistics["dropped"].items())) or "none"
    )
    facts["changes with the order"] = _rate(statistics["flips"])
    facts["first position wins"] = _rate(statistics["first_position"])
    facts["longer answer wins"] = _rate(statistics["longer_wins"])
    facts["pairs by labeller"] = ", ".join(f"{who} {count}" for who, count in statistics["labellers"].items()) or "none"
    if (agreement := statistics.get("human_agreement")) is not None:
        mixed = statistics["mixed"]
        facts["pairs of people"] = (
            f"{mixed['given']}, {mixed['both']} of them labelled by the judge too (rule: {config.mix})"
        )
        facts["agreement of the judge with people"] = _rate(agreement)
    return facts


def _version(judge: str) -> str:
    return f"version {catalogue.JUDGES[judge].version}" if judge in catalogue.JUDGES else "of the user's own"


def _without_place(value: Any) -> Any:
    """An option as the card shows it: the path of a file or model is not in the key, so it must not be in the payload."""
    if isinstance(value, Mapping):
        return {name: _without_place(each) for name, each in value.items()}
    if isinstance(value, list | tuple):  # the members of a jury have options too
        return [_without_place(each) for each in value]
    is_place = isinstance(value, str) and (os.sep in value or Path(value).suffix != "" or Path(value).exists())
    return "(its content)" if is_place else value


def _rate(found: Mapping[str, Any]) -> str:
    if found["rate"] is None:
        return "not measured"
    return f"{found['rate']:.1%} of {found['trials']} (95% interval {found['low']:.1%} to {found['high']:.1%})"


def _licences(*inputs: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in inputs:
        artifact = artifact_of(path) if path else None
        if artifact:
            found.update(checked_manifest(artifact).licences)
    return found
