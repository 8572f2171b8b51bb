"""Which stages a recipe needs, with what config and inputs, in order. Pure: no store, no Prefect, no torch."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from alignflow.data import binding, catalogue
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.inputs import SOURCE_KINDS
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.staged import StagedOptions
from alignflow.data.configs.training import AlignConfig, ReferenceConfig, RewardConfig
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.data.own_module import short
from alignflow.data.step_names import matching, part_name, step_name
from alignflow.flows.independence import check_independence
from alignflow.flows.judging import calibration_of, judge_of, refuse_calibration
from alignflow.flows.merges import check_merge, check_start
from alignflow.flows.method_inputs import (
    LABELLED,
    MISSING,
    NO_DATA,
    SCORES_ALONE,
    SCORES_BESIDE_PAIRS,
    for_win_rates,
    kinds_of,
    mixed_kinds,
    needed_inputs,
    needed_models,
)
from alignflow.flows.reward_members import (
    RewardStep,
    brought_rewards,
    check_members,
    replaced_models,
    trained_rewards,
)
from alignflow.flows.rounds import round_config, split_config
from alignflow.flows.step_configs import checked_as_rewarded, fold_in_replacements, initial_model, seeded, taken_in
from alignflow.flows.steps import Link, Node


def nodes(recipe: Recipe) -> list[Node]:
    """The steps of a recipe in an order in which every input is made before it is taken: as long as it needs, no longer.

    Raises:
        RecipeError: the recipe lacks what one of its stages needs.
    """
    check_merge(recipe)
    recipe = fold_in_replacements(recipe)
    check_members(recipe)
    steps = _Steps(recipe)
    steps.base()
    steps.supervised()
    steps.judge_evaluation()
    steps.preferences()
    if recipe.revise is not None and "revise" not in steps.made:
        raise RecipeError(
            "nothing is sampled or given, so there is nothing to revise",
            where="revise",
            do="give data.prompts or data.completions, or set revise to null",
        )
    steps.reward_model()
    steps.alignment()
    steps.merge()
    steps.evaluation()
    steps.report()
    for gate in recipe.gates:
        if not matching(steps.made, gate.stage):
            do = catalogue.suggest(gate.stage, steps.made)
            raise RecipeError(f"the recipe has no step {gate.stage!r} for a gate", where=f"gate {gate.label}", do=do)
    return list(steps.made.values())


class _Steps:
    """Builds the list; each method adds the nodes of one part of the run."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.made: dict[str, Node] = {}
        self.policy = ""  # the node whose model is aligned
        self.supervised_policy = ""  # the node whose model the result is compared with
        self.aligned = ""  # the node whose model is evaluated: the last one that aligns or merges
        self.reward = ""
        self.round = 0  # of the steps that are added now; 0 outside of a loop
        self.needs = needed_inputs(recipe)
        self.mixes = bool(recipe.data.preferences) and recipe.label.mix != "off" and not recipe.replace.label

    def add(self, base: str, stage: str, config: BaseModel, /, **inputs: Link | None) -> str:
        """Add a step of the round that is built now; returns its name."""
        linked = {input_name: link for input_name, link in inputs.items() if link is not None}
        name = step_name(base, self.round)
        self.made[name] = Node(name, stage, seeded(config, self.recipe.seed), linked, self.round)
        return name

    def base(self) -> None:
        recipe, data = self.recipe, self.recipe.data
        if recipe.judge_eval is not None and not any(getattr(data, kind) for kind in SOURCE_KINDS):
            if recipe.judge_eval.recorded is None and "policy" in needed_models(judge_of(recipe)):
                self.policy = self.add("init", "init", initial_model(recipe))
            return  # a judge is measured, and nothing else is asked for
        if recipe.replace.sft:
            self.policy = self.add("sft", "init", taken_in(recipe.replace.sft, recipe.model))
        else:
            self.policy = self.add("init", "init", initial_model(recipe))
        if any(getattr(data, kind) for kind in SOURCE_KINDS):
            self.add("prepare", "prepare", data, tokenizer=Link(self.policy, "tokenizer"))
        else:
            raise RecipeError(
                "the recipe names no data",
                where="data",
                do="give data.demonstrations, data.prompts or data.preferences",
            )

    def supervised(self) -> None:
        recipe = self.recipe
        self.supervised_policy = self.policy
        if recipe.sft is not None and not recipe.replace.sft and recipe.data.demonstrations:
            demonstrations = Link("prepare", "demonstrations")
            self.supervised_policy = self.add(
                "sft", "sft", recipe.sft, base=Link(self.policy), demonstrations=demonstrations
            )
            if recipe.merge is None:
                self.policy = self.supervised_policy

    def judge_evaluation(self) -> None:
        """The judge on human labels, before anything is sampled for it: a gate on its agreement ends the run here."""
        recipe = self.recipe
        if recipe.judge_eval is None:
            refuse_calibration(recipe)
            return
        config, links = recipe.judge_eval, {}
        if config.recorded is None:
            judge = judge_of(recipe)
            config = config.model_copy(update={"judge": judge})
            needs = needed_models(judge)
            if "reward_model" in needs:
                self._adopt_reward("judge_eval.judge")
            places = {"reward_model": "reward", "policy": self.policy}
            links = {name: Link(places[name]) for name in sorted(needs)}
        self.add("judge_eval", "judge_eval", config, **links)

    def preferences(self) -> None:
        recipe, data = self.recipe, self.recipe.data
        if recipe.replace.align and not recipe.replace.label and "reward" not in recipe.model_fields_set:
            return  # nothing is left to learn from preferences
        if data.preferences and not self.mixes:
            return
        if data.completions:
            completions = Link("prepare", "completions")
        elif (data.prompts or data.demonstrations or self.mixes) and self._preferences_wanted():
            self.add("sample", "sample", recipe.sample, policy=Link(self.policy), prompts=Link("prepare", "prompts"))
            completions = Link("sample", "completions")
        elif recipe.label.mix != "off":
            raise RecipeError(
                f"label.mix: {recipe.label.mix}, and the recipe has nothing to label and to learn from",
                where="label.mix",
                do="give data.prompts or data.completions and a method or reward model that learns from pairs, or set it to off",
            )
        else:
            return
        if recipe.revise is not None:
            policy = Link(self.policy) if recipe.revise.model is None else None
            self.add("revise", "revise", recipe.revise, completions=completions, policy=policy)
            completions = Link("revise", "completions")
        needs = needed_models(recipe.label.judge)
        if "reward_model" in needs:
            self._adopt_reward("label.judge")
        self.add(
            "label",
            "label",
            recipe.label,
            completions=completions,
            policy=Link(self.policy) if "policy" in needs else None,
            reward_model=Link("reward") if "reward_model" in needs else None,
            preferences=Link("prepare", "preferences") if self.mixes else None,
            calibration=calibration_of(recipe),
        )

    def _preferences_wanted(self) -> bool:
        """Whether anything learns from labelled samples: the method, or a reward model; without a method they are the result."""
        recipe = self.recipe
        if recipe.align is None or recipe.replace.align:
            return True
        kinds = kinds_of(method_row(recipe.align.method))
        learnt = (
            recipe.reward is not None
            and not recipe.replace.reward
            and self._prepared(recipe.reward.about_loss.kinds) is None
        )
        if not kinds:
            return learnt
        asked = "reward" in recipe.model_fields_set or "reward_model" in self.needs
        return self._prepared(kinds) is None or (learnt and asked)

    def reward_model(self) -> None:
        recipe = self.recipe
        asked = "reward" in recipe.model_fields_set or "reward_model" in self.needs
        wanted = recipe.reward is not None and ("label" in self.made or asked)
        if recipe.replace.reward:
            self._adopt_reward("replace.reward")
        elif wanted:
            config: RewardConfig = recipe.reward  # type: ignore[assignment]
            kinds = config.about_loss.kinds
            if fed := self._prepared(kinds) or self._labelled(kinds):
                self._add_reward(trained_rewards(seeded(config, recipe.seed)), **dict([fed]))
            elif "reward" in recipe.model_fields_set:
                own = ", ".join(f"data.{kind}" for kind in kinds)
                do = f"give {own}, or data.prompts to sample and label; or set reward to null"
                raise RecipeError(f"reward.loss {config.loss} needs {config.about_loss.what}", where="data", do=do)

    def _add_reward(self, steps: Sequence[RewardStep], **given: Link) -> None:
        """Add the reward model, or an ensemble's members and then itself: the step `reward`, which every step that needs scores takes."""
        for step in steps:
            links = {name: Link(name) for name in step.members} | given
            base = Link(self.policy) if step.stage == "reward" else None
            self.reward = self.add(step.name, step.stage, step.config, base=base, **links)

    def _adopt_reward(self, where: str) -> None:
        paths = replaced_models(self.recipe)
        if not paths:
            raise RecipeError(
                "a judge needs a reward model", where=where, do="set replace.reward, or the judge's options.model"
            )
        if not self.reward:
            self._add_reward(brought_rewards(self.recipe.reward, paths))

    def alignment(self) -> None:
        recipe = self.recipe
        if recipe.replace.align:
            self.aligned = self.add("align", "init", taken_in(recipe.replace.align, recipe.model))
        elif recipe.align is not None:
            method = method_row(recipe.align.method)
            self._check_watcher(recipe.align)
            options = binding.parsed_options(recipe.align, "align")
            if isinstance(options, StagedOptions):
                self.aligned = self._align_in_rounds(method, recipe.align, options)
            else:
                inputs = self._inputs_of(method, recipe.align.max_length, self.policy, self._fed(method))
                config = recipe.align
                if inputs.get("rankings") == Link("label", "rankings"):
                    config = for_win_rates(config, recipe.label.judge)
                self.aligned = self.add("align", "align", config, **inputs)

    def _align_in_rounds(self, method: catalogue.Method, config: AlignConfig, options: StagedOptions) -> str:
        """One part of the pairs after the other: each round starts from the model of the round before and compares with it."""
        whole = self._inputs_of(method, config.max_length, self.policy, self._fed(method), scored=False)
        kind, data = next((feed.kind, whole[feed.kind]) for feed in method.learns_from().feeds if feed.kind in whole)
        by_scores = options.order == "easy_to_hard"
        scores = self._reference(method, config.max_length, self.policy, {kind: data}) if by_scores else None
        cut = self.add("split", "split", split_config(options), preferences=data, reference=scores)
        own, model = round_config(config), self.policy
        for self.round in range(1, options.stages + 1):
            part = kind, Link(cut, part_name(self.round))
            model = self.add("align", "align", own, **self._inputs_of(method, own.max_length, model, part))
        self.round = 0
        return model

    def merge(self) -> None:
        """The adapters of SFT and alignment become one model, which is evaluated in place of the aligned one."""
        if self.recipe.merge is not None:
            check_start(self.made[self.aligned], Link(self.policy))
            adapters = {"sft": Link(self.supervised_policy), "aligned": Link(self.aligned)}
            self.aligned = self.add("merge", "merge", self.recipe.merge, base=Link(self.policy), **adapters)

    def _check_watcher(self, config: AlignConfig) -> None:
        """The judge that watches a training must not be one that teaches it."""
        options = binding.parsed_options(config, "align")
        if isinstance(options, OnlineOptions) and options.heldout_judge is not None:
            parts = [
                part for source in options.rewards for _, part in binding.configs_in(source, "align.options.rewards")
            ]
            teaching = [part for part in parts if isinstance(part, JudgeConfig)]
            for judge in (*teaching, *([self.recipe.label.judge] if "label" in self.made else [])):
                check_independence(judge, options.heldout_judge, "align.options.heldout_judge")

    def _fed(self, method: catalogue.Method) -> tuple[str, Link] | None:
        """Kind and place of the data that feeds a method; None where the recipe has none, or the method samples."""
        return self._prepared(kinds_of(method)) or self._labelled(kinds_of(method))

    def _inputs_of(
        self, method: catalogue.Method, max_length: int, start: str, fed: tuple[str, Link] | None, scored: bool = True
    ) -> dict[str, Link | None]:
        """Where the inputs of a training by the method come from; raises RecipeError for one that it needs and the recipe does not have.

        Args:
            method: Its row.
            max_length: The longest row.
            start: The node whose model the training starts from, which is its reference too.
            fed: What `_fed` says, or a part of it.
            scored: Whether the reference is a step that scores the data, where the method needs one.
        """
        data, family = self.recipe.data, method.learns_from()
        sources = {
            "policy": Link(start),
            "reference": Link(start),
            "prompts": Link("prepare", "prompts") if data.prompts or data.demonstrations or data.preferences else None,
            "reward_model": Link(self.reward) if self.reward else None,
            "demonstrations": Link("prepare", "demonstrations") if data.demonstrations else None,
        }
        if family.feeds:
            wanted_kind = family.feeds[0].kind if fed is None else fed[0]
            sources[wanted_kind] = None if fed is None else fed[1]
        wanted = [name.rstrip("?") for name in family.takes if not name.endswith("?") or name.rstrip("?") in self.needs]
        wanted += [wanted_kind] if family.feeds else []
        for name in wanted:
            if sources[name] is None:
                where, what, do = (NO_DATA if family.feeds and name == wanted_kind else MISSING)[name]
                if (family.feeds and name == wanted_kind == "rankings") and "preferences" not in kinds_of(method):
                    do = SCORES_BESIDE_PAIRS if data.preferences else SCORES_ALONE
                raise RecipeError(f"{short(self.recipe.align.method)} needs {what}", where=where, do=do)  # type: ignore[union-attr]
        if scored and "reference" in wanted and family.feeds:
            sources["reference"] = self._reference(method, max_length, start, {wanted_kind: sources[wanted_kind]})
        return {name: sources[name] for name in wanted}

    def _prepared(self, kinds: Sequence[str]) -> tuple[str, Link] | None:
        """Data of the recipe's own of one of these kinds: kind and link; the first kind goes before the others. None where there is none.

        Pairs that are mixed with the judge's are not the recipe's own any more: the step `label` gives them.
        """
        own = [kind for kind in kinds if getattr(self.recipe.data, kind) and not (kind == "preferences" and self.mixes)]
        return (own[0], Link("prepare", own[0])) if own else None

    def _labelled(self, kinds: Sequence[str]) -> tuple[str, Link] | None:
        """What the step `label` makes that is of one of these kinds; None where the recipe labels nothing.

        Labels of people are pairs, so that where they are mixed in, pairs are what it gives.
        """
        made = [kind for kind in kinds if kind in LABELLED] if "label" in self.made else []
        if made and self.mixes:
            made = mixed_kinds(made)
        return (made[0], Link("label", made[0])) if made else None

    def _reference(
        self, method: catalogue.Method, max_length: int, checkpoint: str, data: dict[str, Link | None]
    ) -> Link:
        """The reference's log-probabilities of the answers, apart from alignment: no other beta or rate computes them again.

        A method that samples takes the reference itself, and asks it as it goes.
        """
        config = ReferenceConfig(
            max_length=max_length, per_token=method.reference_tokens, family=method.family, mismatched=method.mismatched
        )
        return Link(self.add("reference", "reference", config, checkpoint=Link(checkpoint), **data))

    def evaluation(self) -> None:
        recipe, data = self.recipe, self.recipe.data
        if recipe.evaluate is None or not self.aligned:
            return
        labelling = recipe.label.judge if "label" in self.made or recipe.replace.align else None
        judges = (*([labelling] if labelling else []), *recipe.evaluate.judges)
        for index, judge in enumerate(recipe.evaluate.judges):
            check_independence(labelling, judge, f"evaluate.judges.{index}")
        if any("reward_model" in needed_models(judge) for judge in judges) and not self.reward:
            raise RecipeError(
                "a judge needs a reward model",
                where="evaluate.judges",
                do="set reward, replace.reward, or the judge's options.model",
            )
        general = Link("prepare", "general") if data.general or data.demonstrations else None
        self.add(
            "evaluate",
            "evaluate",
            checked_as_rewarded(recipe.evaluate, recipe.align).model_copy(update={"labelling_judge": labelling}),
            aligned=Link(self.aligned),
            sft=Link(self.supervised_policy),
            prompts=Link("prepare", "evaluation"),
            general=general,
            reward_model=Link(self.reward) if self.reward else None,
        )

    def report(self) -> None:
        if self.recipe.report is not None:
            inputs = {name: Link(name) for name in self.made}
            self.add("report", "report", self.recipe.report, **inputs)
