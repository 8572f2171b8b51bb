"""What all configs share: strict, frozen, finite, and marks for the key."""

import pytest
from pydantic import Field, ValidationError

from alignflow.data.configs.base import LARGEST_SEED, SMALLEST, StageConfig, in_key, runtime_field, seed_field


class Config(StageConfig):
    share: float = Field(default=0.5, ge=0, le=1)
    names: tuple[str, ...] = ()
    seed: int = seed_field("Of nothing.")
    threads: int = runtime_field(default=1, ge=1, le=8, description="Of nothing.")


@pytest.mark.parametrize(
    "change", [{"share": "0.5"}, {"share": float("inf")}, {"share": SMALLEST / 10}, {"seed": True}, {"more": 1}]
)
def test_nothing_is_converted_and_nothing_unknown_is_taken(change):
    with pytest.raises(ValidationError):
        Config(**change)


def test_an_int_for_a_float_and_a_list_for_a_tuple_are_fine_and_nothing_changes_afterwards():
    config = Config.model_validate({"share": 1, "names": ["a"]})
    assert config.share == 1.0 and config.names == ("a",)
    with pytest.raises(ValidationError):
        config.share = 0.1


def test_a_runtime_field_is_not_in_the_key_and_a_seed_has_bounds():
    assert in_key(Config, "share") and not in_key(Config, "threads")
    with pytest.raises(ValidationError):
        Config(seed=LARGEST_SEED + 1)
