"""The options of a loss of the user's own: a model with the fields of their class, made from its text."""

from typing import Literal

import pytest

from alignflow.data.configs.base import content_kind
from alignflow.data.configs.pairwise import BetaOptions
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import loaded_method, method_row
from alignflow.data.own_options import same_fields

FILE = """
from typing import Annotated, Literal, Optional
from pydantic import BaseModel, Field
from alignflow.data.configs.base import ModelPath, seed_field
from alignflow.data.configs.pairwise import BetaOptions
from alignflow.data.errors import quoted
from alignflow.models.losses import StageConfig, method

{text}

@method(options={name})
def mine(batch, options): pass
"""


@pytest.fixture
def named(tmp_path):
    """The name of a loss whose file defines its options so."""

    def write(text, name="Mine"):
        (tmp_path / "mine.py").write_text(FILE.replace("{text}", text).replace("{name}", name))
        return f"{tmp_path / 'mine.py'}:mine"

    return write


@pytest.mark.parametrize(
    ("field", "kind", "default"),
    [
        ("x: float = 0.5", float, 0.5),
        ("x: int = Field(default=3, ge=1, le=9)", int, 3),
        ("x: bool = False", bool, False),
        ("x: 'str' = 'a'", str, "a"),
        ("x: float | None = None", float | None, None),
        ("x: Optional[int] = None", int | None, None),
        ("x: tuple[float, ...] = (1.0, 2.0)", tuple[float, ...], (1.0, 2.0)),
        ("x: Literal['a', 'b'] = 'b'", Literal["a", "b"], "b"),
        ("x: int = seed_field('A seed.')", int, 0),
    ],
)
def test_a_field_has_its_type_and_default_and_is_that_of_the_class_itself(field, kind, default, named):
    name = named(f"class Mine(StageConfig):\n    {field}\n")
    read, real = method_row(name).options, loaded_method(name).options
    assert read.model_fields["x"].annotation == kind and read().x == default
    assert real().x == default and real.model_fields["x"].annotation == kind and same_fields(read, real)


def test_bounds_strictness_and_docstring_are_those_of_the_class(named):
    text = (
        'class Mine(StageConfig):\n    """What it has."""\n    x: float = Field(gt=0, le=2, description="A factor.")\n'
    )
    read = method_row(named(text)).options
    assert read.__doc__ == "What it has." and read.model_fields["x"].description == "A factor."
    for wrong in ({}, {"x": 3.0}, {"x": "1"}, {"x": 1.0, "y": 1.0}):
        with pytest.raises(ValueError, match="1 validation error"):
            read.model_validate(wrong)


def test_a_path_whose_bytes_enter_the_key_is_one(named):
    read = method_row(named("class Mine(StageConfig):\n    teacher: ModelPath\n")).options
    assert content_kind(read, "teacher") == "model"


def test_a_class_of_alignflow_is_taken_as_it_is_and_may_be_a_base(named):
    assert method_row(named("", "BetaOptions")).options is BetaOptions
    read = method_row(named("class Mine(BetaOptions):\n    x: float = 1.0\n")).options
    assert issubclass(read, BetaOptions) and set(read.model_fields) == {*BetaOptions.model_fields, "x"}


def test_a_base_of_the_same_file_gives_its_fields(named):
    read = method_row(named("class Base(StageConfig):\n    y: int = 1\nclass Mine(Base):\n    x: int = 2\n")).options
    assert read().model_dump() == {"y": 1, "x": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Mine:\n    x: float = 1.0\n", "not derived from StageConfig"),
        ("class Mine(BaseModel):\n    x: float = 1.0\n", "BaseModel is no class of this file"),
        ("class Mine(StageConfig):\n    x: float = 1.0 * 2\n", "1.0 \\* 2 is no plain value"),
        ("class Mine(StageConfig):\n    x: float = Field(default_factory=make)\n", "make is no plain value"),
        ("class Mine(StageConfig):\n    x: float = make()\n", "make cannot be read without running it"),
        ("class Mine(StageConfig):\n    x: str = quoted('a')\n", "quoted cannot be read without running it"),
        ("class Mine(StageConfig):\n    x: float = BetaOptions()\n", "BetaOptions cannot be read without running it"),
        ("class Mine(StageConfig):\n    x: 'float |' = 1.0\n", "'float |' of an option is not known"),
        ("class Mine(StageConfig):\n    x: None | None = None\n", "None \\| None of an option is not known"),
        ("class Mine(StageConfig):\n    x: Optional[()] = None\n", "of an option is not known"),
        ("class Mine(StageConfig):\n    x = 1.0\n", "x of Mine has no type"),
        ("class Mine(StageConfig):\n    x: str = Field(default='', pattern='(')\n", "Mine is no model"),
        ("class Mine(Base):\n    x: int = 1\nclass Base(Mine):\n    y: int = 1\n", "Mine is a base of itself"),
        ("class Mine(StageConfig):\n    x: complex = 1.0\n", "type complex of an option is not known"),
        ("class Mine(StageConfig):\n    x: list[float] = []\n", "type list\\[float\\] of an option is not known"),
        ("class Mine(StageConfig):\n    x: float = Field(default=1.0, upto=3)\n", "upto"),
        ("class Mine(StageConfig):\n    model_config: int = 1\n", "Mine is no model"),
        ("Mine = 5\n", "options=Mine is no class of this file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_and_line(text, words, named):
    with pytest.raises(RecipeError, match=words) as raised:
        method_row(named(text))
    assert "mine.py, line " in str(raised.value)
