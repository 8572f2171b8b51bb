"""Steps that align: once, on consecutive parts of the data, or in rounds of sample, label and train. Pure."""

from __future__ import annotations

from alignflow.data import binding, catalogue
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.selecting import SelectConfig
from alignflow.data.configs.staged import StagedOptions
from alignflow.data.configs.training import AlignConfig, ReferenceConfig
from alignflow.data.configs.watched import WatchedOptions
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.data.own_module import short
from alignflow.data.step_names import part_name, step_name
from alignflow.flows.comparing import evaluate_step
from alignflow.flows.independence import check_independence
from alignflow.flows.labelling import label_steps, sample_step
from alignflow.flows.method_inputs import (
    LABELLED,
    MISSING,
    NO_DATA,
    SCORES_ALONE,
    SCORES_BESIDE_PAIRS,
    for_win_rates,
    kinds_of,
    needed_inputs,
)
from alignflow.flows.rounds import Plan, check_method, check_who_judges, round_config, sampling_of, split_config
from alignflow.flows.step_configs import taken_in
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link

SELECTED = ("demonstrations", "rankings", "preferences")
"""Tables that the stage `select` writes."""
Fed = tuple[str, Link]
"""Kind of the data that a training reads, and where it comes from."""


def alignment_steps(steps: StepList) -> None:
    """The steps of the recipe's method, or the model that replaces them."""
    recipe = steps.recipe
    if recipe.replace.align:
        steps.aligned = steps.add("align", "init", taken_in(recipe.replace.align, recipe.model))
    elif recipe.align is not None:
        method = method_row(recipe.align.method)
        _check_watcher(steps, recipe.align)
        options = binding.parsed_options(recipe.align, "align")
        if steps.rounds is not None:
            steps.aligned = _iterated(steps, recipe.align, steps.rounds)
        elif isinstance(options, StagedOptions):
            steps.aligned = _on_parts(steps, method, recipe.align, options)
        else:
            steps.aligned = _align(steps, method, recipe.align, steps.policy, steps.policy, _fed(steps, method))
    if recipe.select is not None and not recipe.replace.align and not steps.has("select"):
        raise RecipeError(
            "select keeps answers that a round has sampled and labelled, but the recipe has no such round",
            where="select",
            do="set rounds.number (1 for a single round), or set select to null",
        )


def _align(
    steps: StepList, method: catalogue.Method, config: AlignConfig, start: str, reference: str, fed: Fed | None
) -> str:
    """One training that starts from the model of `start`, with the model of `reference` as its reference."""
    inputs = _inputs_of(steps, method, config.max_length, start, reference, fed)
    given = inputs.get("rankings")
    if given is not None and given.node in steps.made and steps.made[given.node].stage == "label":
        config = for_win_rates(config, steps.made[given.node].config.judge)  # type: ignore[attr-defined]
    return steps.add("align", "align", config, **inputs)


def _on_parts(steps: StepList, method: catalogue.Method, config: AlignConfig, options: StagedOptions) -> str:
    """One round per part of the pairs: each starts from the model of the round before, which is also its reference."""
    policy = steps.policy
    whole = _inputs_of(steps, method, config.max_length, policy, policy, _fed(steps, method), scored=False)
    kind, data = next((feed.kind, whole[feed.kind]) for feed in method.learns_from().feeds if feed.kind in whole)
    by_scores = options.order == "easy_to_hard"
    scores = _reference(steps, method, config.max_length, policy, {kind: data}) if by_scores else None
    cut = steps.add("split", "split", split_config(options), preferences=data, reference=scores)
    own, model = round_config(config), policy
    for steps.round in range(1, options.stages + 1):
        part = kind, Link(cut, part_name(steps.round))
        model = steps.add("align", "align", own, **_inputs_of(steps, method, own.max_length, model, model, part))
    steps.round = 0
    return model


def _iterated(steps: StepList, config: AlignConfig, plan: Plan) -> str:
    """Rounds: the policy of the round before answers, a judge labels, and the policy learns from the labels."""
    recipe, model = steps.recipe, steps.policy
    asked = recipe.rounds
    for steps.round in range(1, plan.number + 1):
        own = steps.own_config("align", config)
        check_method(own, where := f"rounds.overrides, {step_name('align', steps.round)}")
        check_who_judges(own, plan, where)
        method, steps.needs = method_row(own.method), needed_inputs(recipe.model_copy(update={"align": own}))
        if steps.round == 1 and asked.first == "data":
            fed = _given_first(steps, method)
        else:
            answers = sample_step(steps, sampling_of(recipe, steps.round), model)
            judge = model if plan.judges_itself else steps.policy
            label_steps(steps, recipe.label, answers, model, judge)  # type: ignore[arg-type] # rounds have one
            fed = _labelled(steps, method)
        start, reference = model, model if plan.reference == "previous" else steps.policy
        if reference != start and binding.bound_method(own).live_reference:
            raise RecipeError(
                f"{short(own.method)} runs its reference in every step, so the reference is the model that a round starts from",
                where="rounds.reference",
                do="set it to previous, or use a method whose reference is scored beforehand",
            )
        model = _align(steps, method, own, start, reference, fed)
        if asked.evaluate:
            evaluate_step(steps, model)
    steps.round = 0
    return model


def _given_first(steps: StepList, method: catalogue.Method) -> Fed:
    """The recipe's own data, for the first round; raises RecipeError if it has none of the method's kinds."""
    if not (fed := steps.prepared(kinds_of(method))):
        names = " or ".join(f"data.{kind}" for kind in kinds_of(method) if kind in type(steps.recipe.data).model_fields)
        raise RecipeError(
            "the first round should learn from the recipe's own data, but there is none that the method reads",
            where="rounds.first",
            do=f"set {names}, or remove it",
        )
    return fed


def _labelled(steps: StepList, method: catalogue.Method) -> Fed:
    """The data of a round for the method: a table of its labels, or the answers that `select` keeps."""
    kinds = kinds_of(method)
    config = steps.recipe.select or (SelectConfig() if method.family == "selected" else None)
    kept = [kind for kind in kinds if kind in SELECTED and "win_rates" not in kinds]  # chosen answers have no win rates
    if config is not None and kept:
        own = steps.own_config("select", config)
        if kept[0] != "demonstrations" and own.rule == "best" and own.n == 1:
            raise RecipeError(
                f"one answer is kept per prompt, but {kept[0]} need two or more",
                where="select.n",
                do="raise it, or use the rule threshold or rso, or a method that learns from demonstrations",
            )
        chosen = steps.add("select", "select", config, rankings=Link(step_name("label", steps.round), "rankings"))
        return kept[0], Link(chosen, kept[0])
    if config is None and (found := steps.labels(kinds)):
        return found
    raise RecipeError(
        f"{short(steps.recipe.align.method)} learns from {' or '.join(kinds)}, which {'select' if config else 'label'} does not produce",  # type: ignore[union-attr]
        where="select" if config else "rounds.number",
        do=f"use a method that learns from {', '.join(SELECTED if config else LABELLED)}, or remove it",
    )


def _fed(steps: StepList, method: catalogue.Method) -> Fed | None:
    """Kind and place of the data that a method reads; None if the recipe has none, or the method samples."""
    return steps.prepared(kinds_of(method)) or steps.labels(kinds_of(method))


def _check_watcher(steps: StepList, config: AlignConfig) -> None:
    """Refuse a judge that monitors a training and also teaches it."""
    options = binding.parsed_options(config, "align")
    if isinstance(options, WatchedOptions) and options.heldout_judge is not None:
        teachers = options.model_copy(update={"heldout_judge": None})
        parts = [part for _, part in binding.configs_in(teachers, "align.options")]
        teaching = [part for part in parts if isinstance(part, JudgeConfig)]
        for judge in (*teaching, *([steps.labelled.judge] if steps.labelled else [])):
            check_independence(judge, options.heldout_judge, "align.options.heldout_judge")


def _inputs_of(  # noqa: PLR0913 (start, reference and data of a training)
    steps: StepList,
    method: catalogue.Method,
    max_length: int,
    start: str,
    reference: str,
    fed: Fed | None,
    scored: bool = True,
) -> dict[str, Link | None]:
    """Links to the inputs of a training by the method; raises RecipeError if the recipe lacks a required one.

    Args:
        steps: The steps so far.
        method: Its row.
        max_length: The longest row.
        start: The node whose model the training starts from.
        reference: The node whose model is the reference.
        fed: The result of `_fed`, or a part of it.
        scored: Whether a step scores the data with the reference, if the method needs one.
    """
    data, family = steps.recipe.data, method.learns_from()
    sources = {
        "policy": Link(start),
        "reference": Link(reference),
        "prompts": Link("prepare", "prompts") if data.prompts or data.demonstrations or data.preferences else None,
        "reward_model": Link(steps.reward) if steps.reward else None,
        "demonstrations": Link("prepare", "demonstrations") if data.demonstrations else None,
    }
    if family.feeds:
        wanted_kind = family.feeds[0].kind if fed is None else fed[0]
        sources[wanted_kind] = None if fed is None else fed[1]
    wanted = [name.rstrip("?") for name in family.takes if not name.endswith("?") or name.rstrip("?") in steps.needs]
    wanted += [wanted_kind] if family.feeds else []
    for name in wanted:
        if sources[name] is None:
            where, what, do = (NO_DATA if family.feeds and name == wanted_kind else MISSING)[name]
            if (family.feeds and name == wanted_kind == "rankings") and "preferences" not in kinds_of(method):
                do = SCORES_BESIDE_PAIRS if data.preferences else SCORES_ALONE
            raise RecipeError(f"{short(steps.recipe.align.method)} needs {what}", where=where, do=do)  # type: ignore[union-attr]
    if scored and "reference" in wanted and family.feeds:
        scores = _reference(steps, method, max_length, reference, {wanted_kind: sources[wanted_kind]})
        sources["reference"] = scores
    return {name: sources[name] for name in wanted}


def _reference(
    steps: StepList, method: catalogue.Method, max_length: int, checkpoint: str, data: dict[str, Link | None]
) -> Link:
    """The reference's log-probabilities of the answers, as a separate step, so that another beta or learning rate does not compute them again.

    A method that samples takes the reference model itself.
    """
    config = ReferenceConfig(
        max_length=max_length, per_token=method.reference_tokens, family=method.family, mismatched=method.mismatched
    )
    return Link(steps.add("reference", "reference", config, checkpoint=Link(checkpoint), **data))
