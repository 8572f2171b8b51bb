"""Requests of the command line to measure a judge, checked before anything runs. No Prefect, no torch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.loading import changed_recipe, recipe_name
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError
from alignflow.data.own_module import short
from alignflow.data.preference_copy import check_target
from alignflow.flows.calls import Caller
from alignflow.tasks.store.artifact_store import ArtifactStore


@dataclass(frozen=True)
class JudgeOrder:
    """The request.

    Attributes:
        judge: A name of the catalogue, or package.module:class; empty with `recorded`.
        data: Sources of human labels.
        recorded: File of recorded replies; empty for none.
        options: Options of the judge: names and values.
        generator: Engine of the judge's model; empty for the default.
        max_rows: Prompts of each source at most.
        family: Family of the judge's model; empty if unknown.
        settings: Other places of the recipe and their values.
        out: Directory to copy the report to; empty for none.
    """

    judge: str = ""
    data: tuple[str, ...] = ()
    recorded: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    generator: str = ""
    max_rows: int | None = None
    family: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    out: str = ""


@dataclass(frozen=True)
class CheckedJudgeOrder:
    """A checked request: its recipe on the store, and the target directory."""

    recipe: Recipe
    caller: Caller
    target: Path | None

    def found(self) -> bool:
        """Whether the store already has every step."""
        made: dict[str, ArtifactRef] = {}
        for node in self.caller.nodes:
            call = self.caller.call(node, made)
            manifest = self.caller.store.find(call.key) if call else None
            if manifest is None:
                return False
            made[node.name] = manifest.ref()
        return True


def check_judge_order(order: JudgeOrder, store: ArtifactStore, base: Path) -> CheckedJudgeOrder:
    """Check a request; paths are relative to `base`. Raises UserError before anything runs."""
    if bool(order.recorded) == bool(order.judge) or (order.judge and not order.data) or (order.recorded and order.data):
        raise UserError(
            "a judge is measured on human labels, or by its recorded replies",
            where="judge-eval",
            do="pass --judge and --data, or only --recorded",
        )
    target = check_target((base / Path(order.out).expanduser()).absolute()) if order.out else None
    recipe = changed_recipe(content(order), order.settings, base, "judge-eval")
    caller = Caller(recipe, store)
    for node in caller.nodes:
        caller.check(node)
    return CheckedJudgeOrder(recipe, caller, target)


def content(order: JudgeOrder) -> dict[str, Any]:
    """The recipe as the content of a file; its result is the report."""
    what = Path(order.recorded or order.data[0]).name.split(".")[0]
    name = recipe_name(f"{short(order.judge) or 'recorded'}-on-{what}", "judge-eval")
    section: dict[str, Any] = {"family_of_judge": order.family, "max_rows": order.max_rows}
    if order.recorded:
        section["recorded"] = order.recorded
    else:
        section["data"] = [{"path": path} for path in order.data]
        section["judge"] = {"name": order.judge, "options": dict(order.options)}
        if order.generator:
            section["judge"]["generator"] = order.generator
    return {
        "name": name,
        "judge_eval": section,
        **dict.fromkeys(("sft", "reward", "align", "evaluate", "report")),
    }


def copy_report(directory: Path, target: Path | None) -> list[str]:
    """Copy the files of a report to the user's directory; returns lines that say where they are.

    Args:
        directory: The artifact of `judge_eval`.
        target: The directory; None: do not copy.
    """
    page = directory / "side" / "judge_report.html"
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        for file in (page, directory / "side" / "judge_cost.json", *sorted((directory / "payload").glob("*.*"))):
            shutil.copy(file, target / file.name)
        page = target / page.name
    return [f"report: {page}"]
