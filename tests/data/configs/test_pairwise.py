"""Options of pairwise methods: defaults of the papers, and both bounds of every number."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs import pairwise
from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.bounds import bounds_of

OPTIONS = [
    kind
    for kind in vars(pairwise).values()
    if isinstance(kind, type) and issubclass(kind, StageConfig) and kind is not StageConfig
]


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_number_has_both_bounds_and_every_option_a_meaning(kind):
    for name, field in kind.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float):
            bounds = bounds_of(field)
            assert ">" in bounds and "<" in bounds, f"{kind.__name__}.{name}: {bounds}"


def test_defaults_are_those_of_the_papers():
    assert pairwise.DPOOptions().beta == 0.1 and pairwise.DPOPOptions().dpop_lambda == 50.0
    assert pairwise.RSOOptions().beta == 0.05 and pairwise.IPOOptions().length_normalise


@pytest.mark.parametrize("change", [{"beta": 0.0}, {"label_smoothing": 0.5}, {"beta": "0.1"}, {"gamma": 1.0}])
def test_what_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        pairwise.DPOOptions(**change)
