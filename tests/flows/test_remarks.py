"""What a plan and a run say of a recipe's data: tables that nothing takes are named, and so are options that follow from the judge."""

import sys

import pytest

from alignflow.data.configs.recipe import Recipe
from alignflow.flows.graph import nodes
from alignflow.flows.remarks import chosen_options, engine_lines, idle_lines, planned, unused_lines, unused_tables

SOURCE = [{"path": "file.jsonl"}]
MODEL = {"path": "m"}
LLM, RUBRIC = {"judge": {"name": "llm"}}, {"judge": {"name": "rubric"}}


def recipe(data, **content):
    made = Recipe.model_validate(
        {"model": MODEL, "data": dict.fromkeys(data.split(), SOURCE), "report": None, **content}
    )
    return made, nodes(made)


UNUSED = [
    ("unpaired preferences", {"align": {"method": "kto"}, "reward": None, "evaluate": None}, ["preferences"]),
    ("unpaired preferences", {"align": {"method": "kto"}, "reward": {}, "evaluate": None}, []),
    ("unpaired preferences", {"align": {"method": "dpo"}, "evaluate": None}, ["unpaired"]),
    ("rankings preferences", {"align": {"method": "lipo"}, "evaluate": None}, ["preferences"]),
    (
        "unpaired preferences completions",
        {"align": {"method": "kto"}, "evaluate": None},
        ["preferences", "completions"],
    ),
    ("demonstrations", {}, []),
    ("demonstrations preferences", {}, []),
    ("demonstrations preferences", {"sft": None, "evaluate": None}, ["demonstrations"]),
    ("demonstrations preferences", {"sft": None, "evaluate": None, "model": {}}, []),
    ("demonstrations preferences", {"sft": None}, []),
    ("preferences", {}, []),
    ("preferences prompts", {}, []),
    ("preferences prompts evaluation", {}, ["prompts"]),
    ("preferences evaluation", {"evaluate": None}, []),
    ("preferences general", {"evaluate": None}, ["general"]),
    ("preferences general", {}, []),
    ("preferences prompts", {"align": {"method": "ppo"}}, []),
]
"""Kinds of data, the rest of the recipe, and what no step takes."""


@pytest.mark.parametrize(("data", "content", "unused"), UNUSED)
def test_tables_that_no_step_takes(data, content, unused):
    assert unused_tables(*recipe(data, **content)) == unused


def test_the_run_says_how_many_rows_they_have_and_what_the_method_reads_instead():
    made = recipe("unpaired preferences", align={"method": "kto"}, reward=None, evaluate=None)
    said = "data.preferences: no step of the recipe takes"
    assert planned(*made) == [f"{said} it; kto reads unpaired"]
    assert unused_lines(*made, {"preferences/kept": 1234.0}) == [f"{said} its 1,234 rows; kto reads unpaired"]


def test_a_replaced_stage_brings_a_table_that_is_taken_or_named():
    replaced = {"replace": {"label": "pairs.jsonl"}, "reward": None, "evaluate": None}
    assert unused_tables(*recipe("unpaired", **replaced, align={"method": "kto"})) == ["preferences"]
    assert unused_tables(*recipe("demonstrations", **replaced)) == []


def options_of(steps):
    return next(node.config.options for node in steps if node.name == "align")


def test_lipo_reads_win_rates_of_a_pairwise_judge_as_they_are():
    made = recipe("demonstrations", align={"method": "lipo"}, label=LLM, evaluate=None)
    assert options_of(made[1]) == {"labels": "scores"}
    (line,) = chosen_options(*made)
    assert line.startswith("align: lipo takes options.labels: scores, because the judge llm compares pairs")
    assert line in planned(*made)


@pytest.mark.parametrize(
    ("data", "content", "options"),
    [
        ("demonstrations", {"label": RUBRIC, "align": {"method": "lipo"}}, {}),
        ("demonstrations", {"label": {"judge": {"name": "mine.py:Own"}}, "align": {"method": "lipo"}}, {}),
        ("demonstrations rankings", {"label": LLM, "align": {"method": "lipo"}}, {}),
        ("demonstrations", {"label": LLM, "align": {"method": "list_mle"}}, {}),
        (
            "demonstrations",
            {"label": LLM, "align": {"method": "lipo", "options": {"labels": "win_rates"}}},
            {"labels": "win_rates"},
        ),
    ],
    ids=["scores", "unknown judge", "a file's scores", "another method", "the recipe's own"],
)
def test_no_other_scores_and_no_option_of_the_recipes_own_are_touched(data, content, options):
    made = recipe(data, evaluate=None, **content)
    assert options_of(made[1]) == options and chosen_options(*made) == []


def test_a_conversion_is_told_first():
    made = recipe("preferences unpaired", align={"method": "lipo"}, evaluate=None)
    assert [line.partition(":")[0] for line in planned(*made)] == ["align", "data.unpaired"]


def test_what_is_brought_in_place_of_a_stage_is_named_as_the_recipe_names_it():
    made = recipe("unpaired", replace={"label": "mine.jsonl"}, align={"method": "kto"}, reward=None, evaluate=None)
    assert unused_lines(*made, {}) == ["replace.label: no step of the recipe takes it; kto reads unpaired"]


def test_vllm_without_an_environment_is_said_before_its_stage_begins(monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGNFLOW_VLLM_PYTHON", str(tmp_path / "nothing"))
    chosen, steps = recipe("prompts", sample={"generator": "vllm"}, engine={"generator": "vllm"})
    (line,) = engine_lines(chosen, steps)
    assert line.startswith("engine.generator, sample.generator: vllm has no environment on this machine: `make vllm`")
    assert line in planned(chosen, steps) and not engine_lines(*recipe("prompts"))
    monkeypatch.setenv("ALIGNFLOW_VLLM_PYTHON", sys.executable)
    assert not engine_lines(chosen, steps)


def test_every_role_that_needs_vllm_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGNFLOW_VLLM_PYTHON", str(tmp_path / "nothing"))
    judge = {"name": "llm", "generator": {"name": "server", "options": {"serve": {}}}}
    jury = {"name": "jury", "options": {"judges": [{"name": "rubric"}, {"name": "llm", "generator": "vllm"}]}}
    (line,) = engine_lines(*recipe("prompts", label={"judge": judge}, evaluate={"judges": [jury]}))
    named = line.split(": vllm has no")[0].split(", ")
    assert named == ["label.judge.generator.options.serve", "evaluate.judges.0.options.judges.1.generator"]


def test_a_section_that_does_nothing_is_named_with_the_reason():
    made = recipe("demonstrations", align=None, evaluate={"max_prompts": 10}, sft={})
    assert idle_lines(*made) == ["evaluate: align is null, so there is no aligned model to compare"]
    assert idle_lines(*recipe("preferences", sft={"batch_size": 8})) == [
        "sft: there are no data.demonstrations, so nothing is fine-tuned"
    ]
    assert idle_lines(*recipe("demonstrations", align=None)) == [], (
        "sections that the recipe does not write are not named"
    )
