"""Cards of models: a header that the Hub reads, metrics with intervals, and texts of recipes that become no Markdown."""

import pytest
from huggingface_hub import ModelCard

from alignflow.data.model_cards import ModelFacts, model_card
from alignflow.data.report.comparison import Measured

FACTS = ModelFacts(
    title="Aligned by dpo",
    about="Aligned by alignflow.",
    facts={"beta": "0.1", "note": "<img src=x>"},
    kind="checkpoint",
    tags=["align", "dpo"],
    licences={"pairs.jsonl": "Apache-2.0"},
    base_models=["org/base"],
    datasets=["org/pairs"],
    metrics={"win_rate/a": Measured(value=0.75, low=0.5, high=0.9, n=40), "kl": Measured(value=None)},
    measured_on="held-out prompts",
)


def changed(**fields):
    return model_card(ModelFacts(**{**FACTS.__dict__, **fields}), "me/model")


def test_the_hub_reads_licence_base_model_data_tags_and_metrics_from_the_header():
    data = ModelCard(model_card(FACTS, "me/model")).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
    assert data.base_model == ["org/base"] and data.datasets == ["org/pairs"]
    assert data.tags == ["alignflow", "align", "dpo"]
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("win_rate/a", 0.75, "held-out prompts")


def test_metrics_stand_with_interval_and_number_and_one_that_was_not_measured_is_left_out():
    card = model_card(FACTS, "me/model")
    assert "| win_rate/a | 0.75 \\[0.5, 0.9\\] n=40 |" in card and "| kl |" not in card


def test_what_a_recipe_says_is_text():
    assert "\\<img src=x\\>" in model_card(FACTS, "me/model")


@pytest.mark.parametrize(("licences", "wanted"), [({}, "unknown"), ({"a": "MIT", "b": "GPL-3.0"}, "other")])
def test_a_licence_is_stated_where_all_that_went_in_has_it(licences, wanted):
    assert ModelCard(changed(licences=licences)).data.license == wanted


def test_a_model_whose_origin_is_not_on_the_hub_names_none():
    data = ModelCard(changed(base_models=(), datasets=(), metrics={})).data
    assert data.base_model is None and data.datasets is None and data.eval_results is None


def test_the_name_in_the_code_is_a_text_of_python():
    assert 'name = "a\\"b"' in model_card(FACTS, 'a"b')


def test_an_ensemble_has_no_code_for_one_model():
    assert "```python" not in changed(kind="ensemble")


def test_the_header_for_the_hub_has_no_metric_of_another_model_and_names_the_task_of_the_harness():
    names = (
        "lm_eval/arc_easy/acc",
        "lm_eval/arc_easy/acc/sft",
        "lm_eval/arc_easy/acc/change",
        "win_rate/rubric:reader",
    )
    metrics = {name: Measured(value=0.5) for name in names}
    card = changed(metrics=metrics)
    results = ModelCard(card).data.eval_results
    assert {result.metric_name: result.dataset_name for result in results} == {
        "lm_eval/arc_easy/acc": "arc_easy",
        "win_rate/rubric:reader": "held-out prompts",
    }
    assert "lm_eval/arc_easy/acc/sft" in card and "of the task in their name" in card
