"""A recipe's own checks, beside those of its sections."""

import pytest

from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import RecipeError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["engine.rendezvous=host:70000"], "port|65535"),
        (["engine.environment=[LD_PRELOAD]"], "other code"),
        (["gates=[{stage: sft, metric: loss, maximum: 1}, {stage: sft, metric: loss, minimum: 0}]"], "gate|name"),
    ],
)
def test_what_cannot_be_meant_is_refused(repository, settings, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe(repository / "recipes" / "tiny.yaml", settings)
