"""The YAML of a new recipe: short, or with every other field as a comment. Made from the fields of the configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from alignflow.cli.job_recipes import JobRecipe
from alignflow.data.configs.bounds import bounds_of
from alignflow.data.configs.inputs import SOURCE_KINDS
from alignflow.data.configs.recipe import Recipe

GATES = (
    "",
    "# Conditions on the metrics of a step (docs/gates.md). If one fails: stop, ask (a person), warn, or end (as finished).",
    "# gates:",
    "#   - {stage: sft, metric: eval_loss, maximum: 3.0, action: warn}",
    "#   - {stage: sample, metric: stop_rate, minimum: 0.5, action: stop, why: an SFT model that does not stop gives the judge truncated answers}",
    "#   - {stage: label, metric: ties, maximum: 0.3, action: ask, why: many ties teach little}",
    "#   - {stage: label, metric: flip_rate, maximum: 0.3, action: ask, why: a judge that flips when the order changes is guessing}  # judge llm",
    "#   - {stage: label, metric: new/preferences/train, minimum: 200, action: end, why: too few new pairs to train again}",
    "#   - {stage: reward, metric: eval_accuracy, minimum: 0.6, action: stop}",
    "#   - {stage: evaluate, metric: kl, maximum: 20, action: warn}",
    "#   - {stage: evaluate, metric: tokens_mean/aligned, maximum: 200, action: warn}",
    "#   - {stage: evaluate, metric: 'win_rate/rubric:helpful', minimum: 0.5, action: ask}",
)
"""Examples of gates, with the names that stages write."""
REPLACE = (
    "# replace:  # what you already have, in place of a stage",
    "#   sft: path/to/model",
    "#   reward: path/to/reward_model",
)
SECTIONS = ("sft", "sample", "revise", "label", "reward", "align", "merge", "evaluate", "report", "engine")
HIDDEN = ("build", "corpus", "labelling_judge")
"""Fields without a comment: they are for built models, or filled in automatically."""


def recipe_text(made: JobRecipe, full: bool) -> str:
    """The YAML: the fields that the job needs; with `full` also every other field, commented out, with default, bounds and meaning."""
    content = made.content
    more = "Commented lines show defaults and bounds: remove the # to change one."
    lines = [
        f"# {made.summary}",
        f"# Paths are relative to this file's directory. {more if full else 'Every other field: docs/recipe.md, or `alignflow new --full`.'}",
        f"name: {content['name']}",
        *(["# seed: 0", ""] if full else []),
        *_section("model", made, full, skip=("seed",)),
        *([""] if full else []),
        "data:",
        *(line for kind, sources in content["data"].items() for line in _sources(kind, sources, full)),
    ]
    if full:
        lines += _comments("data", skip=SOURCE_KINDS)
        lines += [f"  # more sources, each a list as above: {', '.join(SOURCE_KINDS)}", *REPLACE]
    for section in SECTIONS:
        if full:
            lines.append("")
        lines += _section(section, made, full)
    return "\n".join([*lines, *(GATES if full else ())]) + "\n"


def _section(section: str, made: JobRecipe, full: bool, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """A section with its set fields, and with `full` the others as comments."""
    fields = made.content.get(section, {})
    if fields is None:
        yield f"{section}: null{_note(made.notes, section)}"
    elif fields:
        yield f"{section}:"
        for name, value in fields.items():
            yield f"  {name}: {_flow(value)}{_note(made.notes, f'{section}.{name}')}"
    if full:
        yield from () if fields else [f"# {section}:"]
        yield from _comments(section, skip=(*skip, *(fields or ())))


def _sources(kind: str, sources: list[dict[str, str]], full: bool) -> Iterator[str]:
    yield f"  {kind}:"
    for source in sources:
        yield f"    - path: {_flow(source['path'])}"
        if full:
            yield "      # format: auto  # a name of `alignflow formats`"
            yield "      # weight: 1.0  # share of the rows to keep"


def _comments(section: str, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """The fields of a section with their defaults, commented out."""
    annotation = Recipe.model_fields[section].annotation
    config = next(kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType)
    for name, field in config.model_fields.items():
        if name in (*skip, *HIDDEN):
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        limits = bounds_of(field)
        yield f"  # {name}: {_flow(value)}  # {field.description or ''}{f' ({limits})' if limits else ''}"


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    plain = list(value) if isinstance(value, tuple) else value
    dumper = _Plain
    return yaml.dump(
        plain, Dumper=dumper, default_flow_style=True, width=100_000, sort_keys=False, allow_unicode=True
    ).splitlines()[0]


class _Plain(yaml.SafeDumper):
    """Writes an object that occurs twice in a recipe twice, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write an anchor."""
        return True


def _note(notes: Mapping[str, str], place: str) -> str:
    return f"  # {notes[place]}" if place in notes else ""
