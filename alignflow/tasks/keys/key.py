"""The key of a stage: ONE function from config, inputs, runtime and code versions. Equal keys mean equal results.

It returns its components too, so that `alignflow plan` can say which one of them changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from alignflow.data import binding, catalogue, own_module
from alignflow.data.artifacts import ArtifactRef, Manifest, canonical_json, text_digest
from alignflow.data.catalogue import Part
from alignflow.data.configs.base import content_kind, in_key
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.online_preference import PairedOptions
from alignflow.data.configs.places import by_place
from alignflow.data.configs.rewards import FunctionRewardOptions, RewardSourceConfig
from alignflow.data.configs.training import AlignConfig, ReferenceConfig
from alignflow.data.configs.verifiers import VerifierConfig
from alignflow.data.own_methods import borrowed, method_row
from alignflow.data.own_options import defaults_of
from alignflow.data.run import Runtime
from alignflow.data.shared_parts import VERSIONED
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.fingerprint import part_name
from alignflow.tasks.keys.versions import reached_parts
from alignflow.tasks.launch.runtime import key_components

DIGEST = 64
"""Characters of a digest."""
BINDINGS: tuple[tuple[type[BaseModel], str, str], ...] = (
    (AlignConfig, "method", "methods"),
    (JudgeConfig, "name", "judges"),
    (GeneratorConfig, "name", "generators"),
    (SourceConfig, "format", "formats"),
    (EvaluateConfig, "evaluators", "evaluators"),
    (ReferenceConfig, "family", "families"),
    (OnlineOptions, "advantage", "advantages"),
    (OnlineOptions, "policy_loss", "policy_losses"),
    (PairedOptions, "pair_loss", "methods"),
    (RewardSourceConfig, "name", "rewards"),
    (VerifierConfig, "name", "verifiers"),
    (FunctionRewardOptions, "function", "functions"),  # always the user's own
)
"""Config fields that name parts, with the table of each. The versions of these parts enter the key, and so does the user's own code."""
FIRST = "1"
"""A part's first version. A part that is reached but not named adds nothing to a key at this version, so a new part runs nothing again."""


def stage_key(
    stage: str, config: BaseModel, inputs: Mapping[str, ArtifactRef], runtime: Runtime, contents: ContentDigests
) -> tuple[str, dict[str, Any]]:
    """The key of a stage call, and the components that it was computed from.

    Args:
        stage: A name of the catalogue.
        config: The validated config; content paths are replaced by the digest of their bytes.
        inputs: The stage's inputs; only their digests count.

    Returns:
        `(key, components)`: the key is the stage's name and 40 hex digits.

    Raises:
        UserError: a path of the config does not exist.
    """
    row = catalogue.STAGES[stage]
    components: dict[str, Any] = {"version.stage": row.version, **key_components(row, runtime)}
    components.update(_flatten(config, "config", contents))
    components.update({f"input.{name}": ref.digest for name, ref in inputs.items()})
    for table, name, part in bound_parts(config):
        components[f"version.{table}.{name}"] = part.version
        if isinstance(part, catalogue.Family) and part.generates:
            components["resolved.generator"] = runtime.generator
    for name in used_parts(stage, config, runtime) - {part_name("stages", stage)}:
        table, _, row_name = name.partition(".")
        if (version := VERSIONED[table][row_name].version) != FIRST:
            components[f"version.{name}"] = version
    return f"{stage}-{text_digest(canonical_json(components))[:40]}", components


def used_parts(stage: str, config: BaseModel, runtime: Runtime) -> set[str]:
    """Every part whose code a call may run, by its name in the lock file: the stage, the parts in its config, the engine and
    generator of the runtime, and all parts that these reach."""
    row, bound = catalogue.STAGES[stage], list(bound_parts(config))
    used = {part_name("stages", stage), *(part_name(table, name) for table, name, _ in bound)}
    if row.trains:
        used.add(part_name("engines", runtime.engine))
    if row.generates or any(isinstance(part, catalogue.Family) and part.generates for _, _, part in bound):
        used.add(part_name("generators", runtime.generator))
    reaches = reached_parts()  # an unknown engine is missing here: it is refused when it is made
    return used.union(*(reaches.get(name, ()) for name in used)) & reaches.keys()


def bound_parts(config: BaseModel) -> Iterator[tuple[str, str, Part]]:
    """The catalogue's parts that a config names at any depth, as (table, name, row)."""
    for holder, field, table in BINDINGS:
        if isinstance(config, holder):
            value = getattr(config, field)
            for name in (value,) if isinstance(value, str) else value:
                yield from _named_parts(table, name)
    for value in _children(config):
        yield from bound_parts(value)
    options = binding.parsed_options(config, "options")
    if options is not None:
        yield from bound_parts(options)


def _named_parts(table: str, name: str) -> Iterator[tuple[str, str, Part]]:
    if ":" in name:  # the user's own code enters by its source
        if table == "methods":
            row = method_row(name)
            yield "families", row.family, row.learns_from()
            yield from ((table, other, catalogue.METHODS[other]) for other in borrowed(row))
        return
    rows = catalogue.TABLES[table]
    if name == "auto":  # any of the formats may be the one that fits the data
        yield from ((table, other, part) for other, part in rows.items())
        return
    part = catalogue.look_up(rows, name, table)
    yield table, name, part
    if isinstance(part, catalogue.Method):
        yield "families", part.family, part.learns_from()


def _children(config: BaseModel) -> Iterator[BaseModel]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                yield item


def _flatten(config: BaseModel, prefix: str, contents: ContentDigests) -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values of every field that changes the result and is not its default.

    A new field whose default changes nothing must not run a user's stages again. A default
    that changes is a change of the source behind the stage's version.
    """
    kind = type(config)
    for name in kind.model_fields:
        value = getattr(config, name)
        if name == "options" and isinstance(value, dict):
            yield from _flatten_options(config, f"{prefix}.{name}", contents)
        elif in_key(kind, name):
            if isinstance(value, str) and (what := content_kind(kind, name)):
                yield f"{prefix}.{name}", contents.of(what, value, getattr(config, "revision", None))
            else:
                shown = own_module.short(value) if own_module.may_name_code(kind, name) else value
                yield from _flatten_field(kind.model_fields[name], shown, f"{prefix}.{name}", contents)
        if (
            isinstance(value, str)
            and ":" in value
            and (kind, name) in {(holder, field) for holder, field, _ in BINDINGS}
        ):
            yield f"{prefix}.{name}.source", contents.of("module", value)
            if isinstance(config, AlignConfig):  # its options may be an alignflow class, and defaults add nothing below
                yield f"{prefix}.{name}.defaults", defaults_of(method_row(value).options)


def _flatten_field(field: FieldInfo, value: Any, prefix: str, contents: ContentDigests) -> Iterator[tuple[str, Any]]:
    default = PydanticUndefined if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        if not isinstance(default, BaseModel):  # a section that is present with all fields at their defaults
            yield prefix, "given"
        yield from _flatten(value, prefix, contents)
    elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        yield f"{prefix}.length", len(value)
        for index, item in enumerate(value):
            yield from _flatten(item, f"{prefix}.{index}", contents)
    elif value != default:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _flatten_options(config: BaseModel, prefix: str, contents: ContentDigests) -> Iterator[tuple[str, Any]]:
    """Options parsed by their model, so that writing out a default changes nothing."""
    options = binding.parsed_options(config, prefix)
    if options is not None:
        yield from _flatten(options, prefix, contents)
    else:
        yield prefix, config.options  # type: ignore[attr-defined]


def difference(
    components: Mapping[str, Any], earlier: Mapping[str, Any], configs: Sequence[Mapping[str, Any]] = ({}, {})
) -> list[str]:
    """The key components that differ between a call and an earlier one, each as `name old -> new`.

    Args:
        components: Components of the call.
        earlier: Components of the earlier call.
        configs: Config of the call and of the earlier one. The key has only the digest of a file; its name comes from here.
    """
    new, old = (by_place(config) for config in configs)
    names = [name for name in sorted({*components, *earlier}) if components.get(name) != earlier.get(name)]
    return [
        f"{name} {_short(earlier, name, old)} -> {_short(components, name, new)}"
        if not (file := _file(earlier, name, old)) or file != _file(components, name, new)
        else f"{name} {file}, whose content changed"
        for name in names
    ]


def nearest(call: Mapping[str, Any], config: Mapping[str, Any], manifests: Iterator[Manifest]) -> list[str]:
    """The smallest difference between a call's components and any earlier artifact of the same stage; empty if there is none."""
    found = (difference(call, manifest.components, (config, manifest.config)) for manifest in manifests)
    return min(found, key=len, default=[])


def _short(components: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> str:
    if name not in components:
        return "(default)" if name.startswith("config.") else "(none)"
    text = "(none)" if components[name] is None else str(components[name])
    return _file(components, name, settings) or (text[:12] if len(text) == DIGEST else text[:60])


def _file(components: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> str:
    """The name of the file or folder whose digest a component is; empty for other components."""
    path = settings.get(name.removeprefix("config."))
    return Path(path).name[:60] if len(str(components.get(name))) == DIGEST and isinstance(path, str) else ""
