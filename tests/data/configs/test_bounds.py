"""The values that a field takes, as text."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from alignflow.data.configs.bounds import bounds_of


class Config(BaseModel):
    share: float = Field(default=0.5, gt=0, le=1)
    name: str = Field(default="a", pattern="^a")
    kind: Literal["one", "two"] = "one"
    free: str = ""


@pytest.mark.parametrize(
    ("name", "text"), [("share", "> 0, <= 1"), ("name", "matches ^a"), ("kind", "one, two"), ("free", "")]
)
def test_bounds_choices_or_nothing(name, text):
    assert bounds_of(Config.model_fields[name]) == text
