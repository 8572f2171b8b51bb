"""A merge takes what its method reads, and nothing else."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.merging import MergeConfig


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "linear", "density": 0.2}, "a merge by linear does not read density: leave it out"),
        ({"method": "dare_linear", "divisor": "weight"}, "a merge by dare_linear does not read divisor: leave it out"),
        ({"sft_weight": 0.0, "align_weight": 0.0}, "both 0: the result would be the base"),
        ({"density": 0.0}, "greater than 0"),
        ({"method": "slerp"}, "'linear', 'ties', 'dare_linear' or 'dare_ties'"),
    ],
)
def test_what_a_merge_does_not_read_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        MergeConfig(**fields)


def test_what_it_reads_is_taken():
    assert MergeConfig(method="dare_ties", density=0.2, divisor="weight", align_weight=0.0).density == 0.2
