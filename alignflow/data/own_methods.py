"""Methods by name: rows of the catalogue, and losses of the user's own, named `file.py:NAME` or `package.module:NAME`.

What a loss of the user's own learns from stands above it, in `@method(...)`. A plan reads that as text and runs nothing; the stage
that trains imports the file, and checks that the function says the same.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_args, get_type_hints

from alignflow.data import catalogue, own_code, own_module
from alignflow.data.configs.options import NoOptions
from alignflow.data.errors import RecipeError, quoted
from alignflow.data.own_options import OptionsReader, ours, same_fields

DECLARED = "alignflow_method"
"""Attribute of a function that holds what `method` was told."""
DEFAULTS = {
    field.name: field.default
    for field in fields(catalogue.Method)
    if field.name not in ("address", "summary", "version")
}
"""What a loss may say of itself: the fields of a row of the catalogue, and their values where it says nothing."""
STEP_READS = get_args(get_type_hints(catalogue.Method)["step_reads"])
ABOVE = "write @method(family=..., options=..., needs_reference=...) of alignflow.models.losses above it (docs/extending.md)"

Function = TypeVar("Function", bound=Callable[..., Any])


def method(**declared: Any) -> Callable[[Function], Function]:
    """Mark a function `loss(batch, options)` as a method that a recipe may name.

    Args:
        declared: Fields of `catalogue.Method`, with plain values: family, options (a StageConfig of the same file or of alignflow),
            needs_reference, needs, whole_step (a function of the same file, or the address of one of alignflow), paper and so on.

    Raises:
        TypeError: a field is unknown.
    """
    if unknown := sorted(declared.keys() - DEFAULTS.keys()):
        raise TypeError(f"@method has no {', '.join(unknown)}; it has {', '.join(DEFAULTS)}")

    def mark(function: Function) -> Function:
        setattr(function, DECLARED, declared)
        return function

    return mark


@dataclass(frozen=True)
class OwnMethod(catalogue.Method):
    """The row of a loss of the user's own.

    Attributes:
        docstring: That of the function.
    """

    docstring: str = ""

    def resolve(self) -> Callable[..., Any]:
        """Import and return the function."""
        function: Callable[..., Any] = own_module.load(self.address)
        return function


def is_own(name: str) -> bool:
    """Whether a method's name leads to a file or module of the user's."""
    return ":" in name


def method_row(name: str, where: str = "align.method") -> catalogue.Method:
    """The row of a method; that of the user's own is read from its file, of which nothing runs.

    Raises:
        RecipeError: the name is unknown, or the file or what it says of the method is wrong.
    """
    return _read(name, where) if is_own(name) else catalogue.look_up(catalogue.METHODS, name, where)


def loaded_method(name: str, where: str = "align.method") -> catalogue.Method:
    """The row of a method that is about to run: as `method_row`, and the file of the user's own is imported, with the options' own class.

    Raises:
        RecipeError: as `method_row`; importing fails; or what runs says something else than what was read, which is in the cache key.
    """
    row = method_row(name, where)
    if not isinstance(row, OwnMethod):
        return row
    declared = dict(getattr(row.resolve(), DECLARED, None) or {})
    options = declared.pop("options", NoOptions)
    said = {field: _as_tuple(value) for field, value in declared.items()}
    if not same_fields(row.options, options) or said != {field: getattr(row, field) for field in said}:
        what = f"{quoted(own_module.short(name))} says another thing when it is imported than its text does"
        raise RecipeError(what, where=where, do="leave its decorator and the fields of its options as they are written")
    step_function(row)
    return replace(row, options=options)


def step_function(row: catalogue.Method) -> Callable[..., Any] | None:
    """Import and return what makes the figures of whole steps, the row's `whole_step`; None where it names nothing.

    A name without a module is that of a function of the file of the user's own loss.
    """
    if not row.whole_step:
        return None
    if ":" in row.whole_step:
        return catalogue.Part(row.whole_step, "").resolve()
    function: Callable[..., Any] = own_module.load(f"{row.address.rpartition(':')[0]}:{row.whole_step}")
    return function


def borrowed(row: catalogue.Method) -> list[str]:
    """The catalogue's methods whose functions a loss of the user's own may call: a change of theirs is one of its own.

    They are found by the words of its file, and by its `whole_step`; one too many costs a run again when that method changes.
    """
    if not isinstance(row, OwnMethod):
        return []
    tree = ast.parse(own_module.source_file(row.address).read_bytes())
    words = {row.whole_step.rpartition(":")[2]}
    for node in ast.walk(tree):
        words |= {str(getattr(node, part)) for part in ("id", "attr", "name") if hasattr(node, part)}
    return [
        name
        for name, known in catalogue.METHODS.items()
        if {address.rpartition(":")[2] for address in (known.address, known.whole_step) if address} & words
    ]


def _read(name: str, where: str) -> OwnMethod:
    found = own_code.find(name, where, "loss")
    shown, reader = quoted(own_module.short(name)), OptionsReader(found.file, where)
    node = found.node
    if found.file != own_module.module_file(name.rpartition(":")[0]):
        raise reader.refused(
            f"{shown} is only imported there", node, "name the file that defines it: its text enters the cache key"
        )
    if not isinstance(node, ast.FunctionDef):
        raise reader.refused(f"{shown} is not a function, and a loss is one", node, "name a function(batch, options)")
    if not own_code.takes(node.args, 2):
        raise reader.refused(
            f"{shown} cannot be called with a batch and options", node, "write it as function(batch, options)"
        )
    decorator = next((item for item in node.decorator_list if _is_method(item, found)), None)
    if decorator is None:
        raise reader.refused(f"{shown} does not say what it learns from", node, ABOVE)
    said = _said(decorator, reader)
    docstring = ast.get_docstring(node) or ""
    row = OwnMethod(name, (docstring.splitlines() or [f"A loss of {found.file.name}."])[0], docstring=docstring, **said)
    _check(row, decorator, reader)
    return row


def _is_method(node: ast.expr, found: own_code.Found) -> bool:
    """Whether a decorator is `method`, under whatever name the file imports it."""
    call = node.func if isinstance(node, ast.Call) else node
    if isinstance(call, ast.Attribute):
        return call.attr == method.__name__
    bound = own_code.bound(found.file, call.id, "", own_code.MOST_IMPORTS) if isinstance(call, ast.Name) else None
    return bound is not None and ours(bound) is method


def _said(node: ast.expr, reader: OptionsReader) -> dict[str, Any]:
    """What a decorator says, by field; raises RecipeError for what is unknown, no plain value, or of another type."""
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        raise reader.refused("@method takes names with values alone", node, 'write for example @method(family="pairs")')
    said: dict[str, Any] = {}
    for word in node.keywords:
        field = str(word.arg)
        if field not in DEFAULTS:
            raise reader.refused(f"@method has no {quoted(field)}", word.value, catalogue.suggest(field, DEFAULTS))
        if field == "options":
            said[field] = reader.read(word.value)
            continue
        try:
            value = _as_tuple(ast.literal_eval(word.value))
        except (ValueError, TypeError, SyntaxError):
            what = f"{field} of @method is no plain value, and nothing of the file is run to find out what it is"
            raise reader.refused(what, word.value, "write the value itself") from None
        if type(value) is not type(DEFAULTS[field]):
            kind = type(DEFAULTS[field]).__name__
            raise reader.refused(f"{field} of @method is {value!r}", word.value, f"write a value of type {kind}")
        said[field] = value
    return said


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def _check(row: OwnMethod, node: ast.expr, reader: OptionsReader) -> None:
    """Refuse what does not go together; raises RecipeError."""
    fed = [name for name, family in catalogue.FAMILIES.items() if family.feeds]
    if row.family not in fed:
        what = f"no family {quoted(row.family)} that learns from data that is there"
        raise reader.refused(what, node, f"family is one of {', '.join(fed)}")
    if row.step_reads not in STEP_READS:
        raise reader.refused(f"no step_reads {quoted(row.step_reads)}", node, f"it is one of {', '.join(STEP_READS)}")
    if "logps" not in row.needs:
        raise reader.refused(
            'needs has no "logps", which every batch holds', node, 'write it first: needs=("logps", ...)'
        )
    if not row.needs_reference and (row.reference_tokens or row.live_reference):
        raise reader.refused("it reads a reference, and needs_reference is false", node, "leave one of the two out")
    pairs: tuple[Any, ...] = row.measured_with  # as the file has it
    if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in pairs):
        raise reader.refused("measured_with is not pairs", node, 'write (("argument", "option"), ...)')
    arguments = {argument for known in catalogue.METHODS.values() for argument, _ in known.measured_with}
    if unknown := [argument for argument, _ in pairs if argument not in arguments]:
        do = f"the first of each pair is one of {', '.join(sorted(arguments))}"
        raise reader.refused(f"measured_with has no argument {quoted(str(unknown[0]))}", node, do)
    named = [row.nll_option, row.teacher, *(option for _, option in row.measured_with)]
    for option in named:
        if option and option not in row.options.model_fields:
            raise reader.refused(f"its options have no {quoted(option)}", node, "name a field of the options")
    _check_step(row, node, reader)


def _check_step(row: OwnMethod, node: ast.expr, reader: OptionsReader) -> None:
    if not row.whole_step:
        return
    if ":" in row.whole_step and not row.whole_step.startswith("alignflow."):
        do = "name a function of the same file, or one of alignflow.models.losses.step_scalars by its address"
        raise reader.refused(f"whole_step {quoted(row.whole_step)} is of another file", node, do)
    place = row.whole_step if ":" in row.whole_step else f"{row.address.rpartition(':')[0]}:{row.whole_step}"
    step = own_code.find(place, reader.where, "function").node
    if not isinstance(step, ast.FunctionDef) or not own_code.takes(step.args, 4):
        what = f"whole_step {quoted(row.whole_step)} is no function of answers, options, state and training"
        raise reader.refused(what, node, "see alignflow/models/losses/step_scalars.py")
