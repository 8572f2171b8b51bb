"""Options of a loss of the user's own: a class of their file, read as text, so that a plan can check what a recipe sets and run nothing."""

from __future__ import annotations

import ast
import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from pydantic import Field, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError, to_jsonable_python

import alignflow
from alignflow.data import own_code
from alignflow.data.configs.base import StageConfig, runtime_field, seed_field
from alignflow.data.errors import RecipeError

PLAIN = {"float": float, "int": int, "bool": bool, "str": str, "Any": Any}
"""Types of a field that need no import."""
PACKAGE = Path(alignflow.__file__).parent
WITHOUT_TORCH = "alignflow.data."
"""The part of alignflow that the process of a plan may import."""
FIELDS = (runtime_field, seed_field)
"""Functions that write a field, beside pydantic's `Field`. A plan calls these and no others: any other may do anything with its arguments."""
FORM = 'write a field as `beta: float = Field(default=0.1, gt=0, le=10, description="...")`, with plain values'


@dataclass(frozen=True)
class OptionsReader:
    """Reads a class of one file.

    Attributes:
        file: The file of the loss.
        where: The place of the recipe that names it.
    """

    file: Path
    where: str

    def read(self, node: ast.expr, within: tuple[str, ...] = ()) -> type[StageConfig]:
        """The options that `options=...` names, as a model with the same fields; a class of alignflow itself is imported.

        What a class of the user's does beside its fields (validators, properties) is left out: it works where the loss runs.

        Args:
            node: The name of the class.
            within: Classes of the file that derive from it.

        Raises:
            RecipeError: it is no class of this file or of alignflow, is not derived from StageConfig, or a field is not plain.
        """
        if not isinstance(node, ast.Name):
            raise self.refused("options is not the name of a class", node, "write options=MyOptions")
        found = own_code.bound(self.file, node.id, self.where, own_code.MOST_IMPORTS)
        if found is None:
            raise self.refused(f"options={node.id}: there is no such class", node, "define it in the file of the loss")
        if found.file == self.file and isinstance(found.node, ast.ClassDef):
            if node.id in within:
                raise self.refused(f"{node.id} is a base of itself", node, "derive it from StageConfig")
            return self._model(found.node, (*within, node.id))
        kind = ours(found)
        if isinstance(kind, type) and issubclass(kind, StageConfig):
            return kind
        raise self.refused(
            f"options={node.id} is no class of this file",
            node,
            "define it in the file of the loss, whose text enters the cache key, as a StageConfig",
        )

    def refused(self, what: str, node: ast.AST, do: str) -> RecipeError:
        """The error about a statement of the file."""
        return RecipeError(what, where=f"{self.where}, {self.file}, line {getattr(node, 'lineno', 1)}", do=do)

    def _model(self, node: ast.ClassDef, within: tuple[str, ...]) -> type[StageConfig]:
        bases = [self.read(base, within) if not _is_base(base) else StageConfig for base in node.bases]
        if not bases:
            raise self.refused(
                f"{node.name} is not derived from StageConfig",
                node,
                f"write class {node.name}(StageConfig), from alignflow.models.losses",
            )
        for statement in node.body:
            for target in statement.targets if isinstance(statement, ast.Assign) else ():
                if isinstance(target, ast.Name) and target.id != "model_config" and not target.id.startswith("_"):
                    raise self.refused(f"{target.id} of {node.name} has no type", statement, FORM)
        fields = {
            statement.target.id: self._field(statement)
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        }
        try:
            make: Any = create_model  # its declaration knows no bases that are read
            made: type[StageConfig] = make(
                node.name, __base__=tuple(bases), __doc__=ast.get_docstring(node) or "", **fields
            )
            made.model_rebuild(force=True)  # what is wrong with a field is known when the validator is built
        except (PydanticUserError, SchemaError, NameError, TypeError, ValueError) as error:
            raise self.refused(f"{node.name} is no model: {str(error).splitlines()[0]}", node, FORM) from None
        return made

    def _field(self, statement: ast.AnnAssign) -> tuple[Any, Any]:
        try:
            kind = self._kind(statement.annotation)
        except (SyntaxError, TypeError, ValueError, IndexError, RecursionError):
            raise self._unknown(statement.annotation) from None
        return kind, ... if statement.value is None else self._default(statement.value)

    def _default(self, node: ast.expr) -> Any:
        """A plain value, or what `Field` or one of alignflow's own ways to write a field makes of plain values."""
        if not isinstance(node, ast.Call):
            return self._plain(node)
        make: Any = Field if isinstance(node.func, ast.Name) and node.func.id == "Field" else self._of_ours(node.func)
        if make is not Field and make not in FIELDS:
            raise self.refused(f"{ast.unparse(node.func)} cannot be read without running it", node, FORM)
        keywords = {word.arg: self._plain(word.value) for word in node.keywords if word.arg}
        values = [self._plain(value) for value in node.args]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # pydantic passes over a word that it does not know, with a warning
                return make(*values, **keywords)
        except (TypeError, DeprecationWarning) as error:
            raise self.refused(f"{ast.unparse(node)}: {str(error).splitlines()[0]}", node, FORM) from None

    def _plain(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise self.refused(
                f"{ast.unparse(node)} is no plain value, and nothing of the file is run to find out what it is",
                node,
                FORM,
            ) from None

    def _kind(self, node: ast.expr) -> Any:
        """The type that an annotation says."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._kind(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.Constant) and node.value is None:
            return None
        if isinstance(node, ast.Name):
            return PLAIN[node.id] if node.id in PLAIN else self._known(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._kind(node.left) | self._kind(node.right)
        if isinstance(node, ast.Subscript):
            return self._with_parts(node)
        return self._known(node)

    def _with_parts(self, node: ast.Subscript) -> Any:
        name = node.value.id if isinstance(node.value, ast.Name) else ""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            return Literal[tuple(map(self._plain, parts))]
        if name == "Optional":
            return Optional[self._kind(parts[0])]  # noqa: UP045
        if name == "tuple":
            return tuple[tuple(... if _is_dots(part) else self._kind(part) for part in parts)]  # type: ignore[misc]
        return self._known(node)

    def _known(self, node: ast.expr) -> Any:
        found = self._of_ours(node)
        if found is None:
            raise self._unknown(node)
        return found

    def _unknown(self, node: ast.expr) -> RecipeError:
        known = f"{', '.join(PLAIN)}, Literal, tuple, | None, or a type of alignflow.data.configs.base"
        return self.refused(f"the type {ast.unparse(node)} of an option is not known here", node, f"write {known}")

    def _of_ours(self, node: ast.expr) -> Any:
        found = (
            own_code.bound(self.file, node.id, self.where, own_code.MOST_IMPORTS)
            if isinstance(node, ast.Name)
            else None
        )
        return None if found is None else ours(found)


def ours(found: own_code.Found) -> Any:
    """What a statement of alignflow.data binds, imported; None for a statement of any other file, which is not run."""
    if not found.file.is_relative_to(PACKAGE):
        return None
    module = ".".join(("alignflow", *found.file.relative_to(PACKAGE).with_suffix("").parts))
    if not module.startswith(WITHOUT_TORCH):
        return None
    node = found.node
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    name = str(getattr(target, "id", None) or getattr(node, "name", ""))
    return getattr(importlib.import_module(module), name, None)


def same_fields(read: type[StageConfig], real: Any) -> bool:
    """Whether a class has the fields and defaults that were read from its text."""
    if not (isinstance(real, type) and issubclass(real, StageConfig)):
        return False
    return defaults_of(read) == defaults_of(real)


def defaults_of(kind: type[StageConfig]) -> dict[str, Any]:
    """Field -> its default, as plain values; a list with one word for a field that has none."""
    return {
        name: ["required"] if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True))
        for name, field in kind.model_fields.items()
    }


def _is_base(node: ast.expr) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).rpartition(".")[2] == StageConfig.__name__


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
