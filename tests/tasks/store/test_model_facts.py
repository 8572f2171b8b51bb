"""What the store knows of a model: its origin by its lineage, and the newest evaluation of this very model."""

import shutil

import pytest
from compared_support import finished_step

from alignflow.tasks.store.model_facts import COMPARED_ON, TRAINED_ON, model_facts


@pytest.fixture
def made(store):
    """Put a step into the store; returns its manifest."""
    return lambda key, **more: finished_step(store.root, key.split("-")[0], key, **more).manifest


@pytest.fixture
def align(made):
    init = made("init-1", components={"config.path": "hub:org/base@0a1b2c", "config.build": "x"})
    paths = {"config.preferences.0.path": "hub:org/pairs@ff00", "config.preferences.1.path": "d" * 64}
    prepare = made("prepare-1", components=paths)
    inputs = {"policy": init.ref(), "preferences": prepare.ref()}
    more = {"config": {"method": "dpo"}, "licences": {"pairs": "MIT"}, "metrics": {"loss": 1.0, "eval_loss": 0.5}}
    return made("align-1", inputs=inputs, **more)


def test_base_model_and_data_are_those_of_the_hub_in_its_lineage(store, align):
    facts = model_facts(store, align)
    assert (facts.base_models, facts.datasets) == (["org/base"], ["org/pairs"])
    assert list(facts.tags) == ["align", "dpo"] and facts.licences == {"pairs": "MIT"}
    assert facts.facts["artifact"] == "align-1" and facts.facts["digest"] == align.digest


def test_the_metrics_are_those_of_an_evaluation_of_this_model(store, align, made):
    made("evaluate-2", inputs={"aligned": made("align-2").ref()}, metrics={"kl": 9.0})
    made("evaluate-1", inputs={"aligned": align.ref()}, metrics={"kl": 0.5})
    facts = model_facts(store, align)
    assert facts.metrics["kl"].value == 0.5 and facts.measured_on == COMPARED_ON


def test_without_an_evaluation_they_are_those_on_held_out_rows(store, align, made):
    reward = made("reward-1", metrics={"eval_accuracy": 0.75, "loss": 0.1, "eval_pairs": 8.0})
    facts = model_facts(store, reward)
    assert list(facts.metrics) == ["eval_accuracy"] and facts.metrics["eval_accuracy"].n == 8
    assert facts.measured_on == TRAINED_ON


def test_a_lineage_that_is_gone_is_said(store, align):
    shutil.rmtree(store.directory("prepare-1"))
    facts = model_facts(store, align)
    assert facts.base_models == [] and "no longer in the store" in facts.facts["lineage"]


def test_title_and_sentence_are_those_of_the_card_that_the_stage_wrote(store, align):
    card = "# Aligned by dpo\n\nAligned by alignflow (DPO \\<2023\\>).\n\n- beta: 0.1\n- licences of what went in: a: MIT\n"
    (store.directory("align-1") / "payload" / "README.md").write_text(card)
    facts = model_facts(store, align)
    assert (facts.title, facts.about) == ("Aligned by dpo", "Aligned by alignflow (DPO <2023>).")
    assert facts.facts["beta"] == "0.1" and "licences of what went in" not in facts.facts
