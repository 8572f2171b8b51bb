"""`alignflow new`: a commented recipe for one's own model and data, made from the fields of the configs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer
import yaml
from pydantic import BaseModel

from alignflow.cli.terminal import Console
from alignflow.data.configs.bounds import bounds_of
from alignflow.data.configs.inputs import SOURCE_KINDS, SourceConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError

GATES = (
    "",
    "# Conditions on the metrics of a step (docs/gates.md). Where one does not hold: stop, ask (a person), warn, or end (as finished).",
    "# gates:",
    "#   - {stage: sft, metric: eval_loss, maximum: 3.0, action: warn}",
    "#   - {stage: sample, metric: stop_rate, minimum: 0.5, action: stop, why: an SFT model that does not stop gives cut answers to the judge}",
    "#   - {stage: label, metric: ties, maximum: 0.3, action: ask, why: a judge that sees no difference teaches none}",
    "#   - {stage: label, metric: flip_rate, maximum: 0.3, action: ask, why: one that changes its mind with the seats guesses}  # judge llm",
    "#   - {stage: label, metric: new/preferences/train, minimum: 200, action: end, why: too little is new to train again}",
    "#   - {stage: reward, metric: eval_accuracy, minimum: 0.6, action: stop}",
    "#   - {stage: evaluate, metric: kl, maximum: 20, action: warn}",
    "#   - {stage: evaluate, metric: tokens_mean/aligned, maximum: 200, action: warn}",
    "#   - {stage: evaluate, metric: 'win_rate/rubric:helpful', minimum: 0.5, action: ask}",
)
"""Examples of gates, with the names that stages write."""
METHODS = {"unpaired": "kto", "rankings": "lipo"}
"""Kind of the data -> the method that a new recipe has, where it is not the default."""
SECTIONS = ("sft", "sample", "revise", "label", "reward", "align", "merge", "evaluate", "report", "engine")
ASKED_FOR = ("revise", "reward", "merge")
"""Sections that stay commented out: to have one at all asks for something that most runs do without."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(new)


def new(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Local directory or Hub id of the base model.")],
    data: Annotated[str, typer.Option(metavar="DATA", help="Local file, saved data set, or Hub id.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the recipe.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented recipe for a model and data."""
    if output.exists():
        raise UserError("the file exists already", where=str(output), do="give another --output")
    for name, value in (("--model", model), ("--data", data)):
        if value.startswith((".", "/", "~")) and not Path(value).expanduser().exists():
            raise UserError(f"no such file or directory: {value}", where=name, do="check the path, or give a Hub id")
    kind = kind_of(data)
    base = output.absolute().parent
    output.write_text(recipe_text(_from(model, base), _from(data, base), kind))
    Console().print(
        f"wrote {output} ({data} read as {kind}{f'; method {METHODS[kind]}' if kind in METHODS else ''})\n  alignflow run {output} --smoke   every stage in small\n"
        f"  alignflow plan {output}\n  alignflow run {output}",
        highlight=False,
        soft_wrap=True,
    )


def kind_of(data: str) -> str:
    """The best use of a data source by its columns; demonstrations for a Hub id."""
    if not Path(data).expanduser().exists():
        return "demonstrations"
    from alignflow.data.sources.detect import kinds_of

    found = kinds_of(SourceConfig(path=str(Path(data).expanduser())))
    order = ("preferences", "demonstrations", "completions", "unpaired", "rankings", "prompts")
    if found[:1] == ["unpaired"] or ("rankings" in found and found[0] in ("rankings", "preferences")):
        return "unpaired" if found[0] == "unpaired" else "rankings"
    use = next((kind for kind in order if kind in found), None)
    if use is None and "texts" in found:
        raise UserError(
            "plain text, and nothing in it says what of it is a prompt",
            where=data,
            do="write a recipe with `format: text` for it: the first sentence is then the prompt, and the rest the answer",
        )
    if use is None:
        raise UserError("no row of it can be used", where=data, do="`alignflow formats` lists what rows may look like")
    return use


def _from(path: str, base: Path) -> str:
    """A local path as seen from the recipe's directory; anything else as it is."""
    place = Path(path).expanduser()
    if not place.exists():
        return path
    place = place.absolute()
    return f"./{place.relative_to(base)}" if place.is_relative_to(base) else str(place)


def recipe_text(model: str, data: str, kind: str) -> str:
    """The YAML: what was given, and every other field with its default, its bounds and what it means, commented out."""
    lines = [
        "# A recipe of alignflow. Commented lines are defaults with their bounds: take the # away to change one.",
        "# Paths start at this file's directory.",
        "name: run",
        "# seed: 0",
        "",
        "model:",
        f"  path: {yaml.safe_dump(model, width=1000).splitlines()[0]}",
        *_fields(Recipe.model_fields["model"].annotation, skip=("path", "build", "corpus", "seed")),
        "data:",
        f"  {kind}:",
        f"    - path: {yaml.safe_dump(data, width=1000).splitlines()[0]}",
        "      # format: auto  # a name of `alignflow formats`",
        "      # weight: 1.0  # share of the rows to keep",
        *_fields(
            Recipe.model_fields["data"].annotation,
            skip=SOURCE_KINDS,
        ),
        f"  # more sources, each a list as above: {', '.join(SOURCE_KINDS)}",
        "# replace:  # what you already have, in place of a stage",
        "#   sft: path/to/model",
        "#   reward: path/to/reward_model",
    ]
    for section in SECTIONS:
        first, *others = _fields(_config_of(section))
        if section == "align" and kind in METHODS:
            others = [f"  method: {METHODS[kind]}" if line.startswith("  # method:") else line for line in others]
        # Its first field stands, so that the section is no empty one, which would turn the stage off.
        lines += [
            "",
            *([f"{section}:", first.replace("# ", "", 1)] if section not in ASKED_FOR else [f"# {section}:", first]),
            *others,
        ]
    return "\n".join([*lines, *GATES]) + "\n"


def _config_of(section: str) -> Any:
    kinds = get_args(Recipe.model_fields[section].annotation) or (Recipe.model_fields[section].annotation,)
    return next(kind for kind in kinds if kind is not NoneType)


def _fields(config: Any, skip: tuple[str, ...] = ()) -> Iterator[str]:
    for name, field in config.model_fields.items():
        if name in skip or name == "labelling_judge":
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        shown = yaml.safe_dump(
            list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000
        ).splitlines()[0]
        limits = bounds_of(field)
        yield f"  # {name}: {shown}  # {field.description or ''}{f' ({limits})' if limits else ''}"
