"""A deployed flow names its runs after what they change, and keeps a name that a person gave."""

from types import SimpleNamespace

import pytest

from alignflow.flows import deployed
from alignflow.flows.forms import stage_form


@pytest.fixture
def called(repository, monkeypatch):
    """The name that a run of a flow gets, by its parameters, the name that it has, and its tags."""

    def name(flow, has="shy-seal", tags=(), **parameters):
        run = SimpleNamespace(
            get_parameters=lambda: {"recipe": str(repository / "recipes" / "tiny.yaml"), **parameters},
            get_flow_name=lambda: flow,
            get_name=lambda: has,
            get_tags=lambda: list(tags),
        )
        monkeypatch.setattr(deployed, "flow_run", run)
        return deployed.run_name()

    return name


def test_the_form_and_the_other_settings_are_in_the_name(called):
    filled = stage_form("align")(options={"beta": 0.3})
    assert called("align", settings=filled, more=["seed=1"]) == "tiny align beta=0.3 seed=1"
    assert called("align", settings=stage_form("align")()) == "tiny align"


def test_a_setting_that_cannot_be_read_stops_no_name(called):
    assert called("align", more=["beta"]) == "tiny align"
    assert called("align", settings={"nothing": 1}) == "tiny align"


def test_a_name_that_a_person_gave_is_kept(called):
    assert called("align", has="my third try") == "my third try"
    assert called("align", has="shy-seal", tags=["named"]) == "shy-seal"
