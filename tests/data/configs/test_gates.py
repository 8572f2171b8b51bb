"""Conditions on metrics, as a recipe writes them."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.gates import GateConfig


def test_a_gate_is_called_by_its_name_or_by_step_and_metric():
    assert GateConfig(stage="sft", metric="eval_loss", maximum=2.0).label == "sft.eval_loss"
    assert GateConfig(stage="sft", metric="eval_loss", maximum=2.0, name="loss").label == "loss"


@pytest.mark.parametrize(
    ("limits", "said"),
    [({}, "needs a minimum or a maximum"), ({"minimum": 2.0, "maximum": 1.0}, "nothing is at least")],
)
def test_a_gate_that_nothing_or_everything_passes_is_refused(limits, said):
    with pytest.raises(ValidationError, match=said):
        GateConfig(stage="sft", metric="eval_loss", **limits)
