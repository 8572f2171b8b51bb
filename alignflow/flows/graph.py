"""The steps that a recipe needs, with configs and inputs, in order. Pure: no store, no Prefect, no torch."""

from __future__ import annotations

from alignflow.data import catalogue
from alignflow.data.configs.inputs import SOURCE_KINDS
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.data.step_names import matching
from alignflow.flows.alignment import alignment_steps
from alignflow.flows.comparing import evaluate_step
from alignflow.flows.judging import judge_of, refuse_calibration
from alignflow.flows.labelling import preference_steps
from alignflow.flows.merges import check_merge, check_start
from alignflow.flows.method_inputs import needed_models
from alignflow.flows.reward_members import check_members
from alignflow.flows.reward_steps import adopt_reward, late_reward_steps, reward_steps
from alignflow.flows.rounds import as_method_runs, check_overrides
from alignflow.flows.step_configs import fold_in_replacements, initial_model, taken_in
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link, Node


def nodes(recipe: Recipe) -> list[Node]:
    """The steps of a recipe in topological order; steps that nothing needs are left out.

    Raises:
        RecipeError: the recipe lacks something that a stage needs.
    """
    check_merge(recipe)
    recipe = as_method_runs(fold_in_replacements(recipe))
    check_members(recipe)
    steps = StepList(recipe)
    _base(steps)
    _supervised(steps)
    _judge_evaluation(steps)
    preference_steps(steps)
    reward_steps(steps)
    alignment_steps(steps)
    late_reward_steps(steps)
    if recipe.revise is not None and not steps.has("revise"):
        raise RecipeError(
            "there are no answers to revise",
            where="revise",
            do="set data.prompts or data.completions, or set revise to null",
        )
    _merge(steps)
    evaluate_step(steps, steps.aligned)
    if recipe.report is not None:
        titled = recipe.report.model_copy(update={"title": recipe.report.title or recipe.name})
        steps.add("report", "report", titled, **{name: Link(name) for name in steps.made})
    check_overrides(recipe, steps.made)
    for gate in recipe.gates:
        if not matching(steps.made, gate.stage):
            do = catalogue.suggest(gate.stage, steps.made)
            raise RecipeError(f"the recipe has no step {gate.stage!r} for a gate", where=f"gate {gate.label}", do=do)
    return list(steps.made.values())


def _base(steps: StepList) -> None:
    recipe, data = steps.recipe, steps.recipe.data
    if recipe.judge_eval is not None and not any(getattr(data, kind) for kind in SOURCE_KINDS):
        if recipe.judge_eval.recorded is None and "policy" in needed_models(judge_of(recipe)):
            steps.policy = steps.add("init", "init", initial_model(recipe))
        return  # the recipe only measures a judge
    if recipe.replace.sft:
        steps.policy = steps.add("sft", "init", taken_in(recipe.replace.sft, recipe.model))
    else:
        steps.policy = steps.add("init", "init", initial_model(recipe))
    if any(getattr(data, kind) for kind in SOURCE_KINDS):
        steps.add("prepare", "prepare", data, tokenizer=Link(steps.policy, "tokenizer"))
    else:
        raise RecipeError(
            "the recipe names no data",
            where="data",
            do="set data.demonstrations, data.prompts or data.preferences",
        )


def _supervised(steps: StepList) -> None:
    recipe = steps.recipe
    steps.supervised_policy = steps.policy
    if recipe.sft is not None and not recipe.replace.sft and recipe.data.demonstrations:
        demonstrations = Link("prepare", "demonstrations")
        steps.supervised_policy = steps.add(
            "sft", "sft", recipe.sft, base=Link(steps.policy), demonstrations=demonstrations
        )
        if recipe.merge is None:
            steps.policy = steps.supervised_policy


def _judge_evaluation(steps: StepList) -> None:
    """Measure the judge on human labels before anything is sampled, so that a gate on its agreement can end the run here."""
    recipe = steps.recipe
    if recipe.judge_eval is None:
        refuse_calibration(recipe)
        return
    config, links = recipe.judge_eval, {}
    if config.recorded is None:
        judge = judge_of(recipe)
        config = config.model_copy(update={"judge": judge})
        needs = needed_models(judge)
        if "reward_model" in needs:
            adopt_reward(steps, "judge_eval.judge")
        places = {"reward_model": "reward", "policy": steps.policy}
        links = {name: Link(places[name]) for name in sorted(needs)}
    steps.add("judge_eval", "judge_eval", config, **links)


def _merge(steps: StepList) -> None:
    """Merge the adapters of SFT and alignment into one model, which is evaluated instead of the aligned one."""
    if steps.recipe.merge is not None:
        check_start(steps.made[steps.aligned], Link(steps.policy))
        adapters = {"sft": Link(steps.supervised_policy), "aligned": Link(steps.aligned)}
        steps.aligned = steps.add("merge", "merge", steps.recipe.merge, base=Link(steps.policy), **adapters)
