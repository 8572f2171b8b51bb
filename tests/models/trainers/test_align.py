"""The stage body `align` hands a method's own inputs over, and nothing is loaded for a wrong name."""

import pytest

from alignflow.data.catalogue import FAMILIES
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError
from alignflow.models.trainers.align import align


@pytest.mark.parametrize(
    ("method", "wanted"),
    [("dpo", {"policy", "reference", "preferences"}), ("kto", {"policy", "reference", "unpaired", "preferences"})],
)
def test_a_family_is_given_what_it_takes_alone(monkeypatch, tmp_path, method, wanted):
    given = {}
    monkeypatch.setattr(
        type(FAMILIES["pairs"]), "resolve", lambda row: lambda config, **inputs: given.update(inputs) or {"loss": 1.0}
    )
    found = align(AlignConfig(method=method), policy=tmp_path, run=None, preferences=tmp_path, prompts=tmp_path)
    assert found == {"loss": 1.0} and wanted <= set(given) and "prompts" not in given
    assert given["preferences"] == tmp_path and given["reference"] is None


@pytest.mark.parametrize("config", [AlignConfig(method="dop"), AlignConfig(method="dpo", options={"btea": 1})])
def test_a_wrong_name_is_refused_before_anything_is_loaded(tmp_path, config):
    with pytest.raises(RecipeError):
        align(config, policy=tmp_path / "nothing", run=None)
