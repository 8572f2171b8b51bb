"""Options of methods for single answers and lists of negatives."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.unpaired import BCOOptions, CRINGEOptions, KTOOptions, NPOOptions, PairwiseCRINGEOptions


def test_what_is_tuned_per_task_has_no_default():
    with pytest.raises(ValidationError, match="alpha"):
        CRINGEOptions(top_k=3)
    with pytest.raises(ValidationError, match="tau"):
        PairwiseCRINGEOptions(alpha=0.5, top_k=3, b=0.0)
    assert CRINGEOptions(alpha=0.5, top_k=3).top_k == 3


@pytest.mark.parametrize(
    ("kind", "change"),
    [(KTOOptions, {"desirable_weight": 0.0}), (BCOOptions, {"delta_momentum": 1.0}), (NPOOptions, {"retain": "mse"})],
)
def test_values_outside_of_their_meaning_are_refused(kind, change):
    with pytest.raises(ValidationError):
        kind(**change)
