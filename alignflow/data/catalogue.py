"""What a recipe may name. Tables without torch: flows, command line, forms, docs and completeness tests read them.

A row holds a dotted address (`package.module:function`) that only the worker resolves; a test resolves them all.
Raise a row's `version` when a change of its code changes results: the version is part of the cache key.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from alignflow.data.configs import generation, inputs, online, options, training
from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.explaining import explain, suggest
from alignflow.data.errors import RecipeError, quoted


@dataclass(frozen=True)
class Part:
    """Anything that a recipe names and a stage binds.

    Attributes:
        address: Dotted address of the function or class.
        summary: One line for lists and docs.
        version: Raised when its results change.
    """

    address: str
    summary: str
    version: str = "1"

    def resolve(self) -> Callable[..., Any]:
        """Import and return what the address names."""
        module, _, name = self.address.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Stage(Part):
    """One cached step: `body(config, *, <inputs>, run) -> metrics`.

    Attributes:
        config: Type of its config.
        takes: Names of its inputs; a trailing `?` marks an optional one.
        makes: Kind of the artifact: checkpoint, reward_model, dataset, evaluation or report.
        trains: Whether it runs on the training engine.
        generates: Whether it runs a generator.
        scores: Whether it runs a model to score what is there, in the processes that train.
        fills: Address of what journals a share of its rows, `(config, *, <inputs>, run, share)`; empty: it is not shared out.
    """

    config: type[StageConfig] = StageConfig
    takes: tuple[str, ...] = ()
    makes: str = "dataset"
    trains: bool = False
    generates: bool = False
    scores: bool = False
    fills: str = ""


@dataclass(frozen=True)
class Method(Part):
    """One alignment method: its loss is a pure function over named batches.

    Attributes:
        options: Type of `align.options`.
        trainer: The row of TRAINERS that runs it.
        takes: Names of the inputs of `align` that it works on; a trailing `?` marks one that its options decide about.
        ignores: Common fields of `align` that it has no use for: a recipe that sets one is refused.
        columns: Columns of the data that it reads.
        needs_reference: Whether it compares with a frozen reference model.
        reference_tokens: Whether it needs the reference's log-probability of each token, and not the sums alone.
        beta: Default of `align.beta`.
        paper: arXiv id.
    """

    options: type[StageConfig] = options.NoOptions
    trainer: str = "pairs"
    takes: tuple[str, ...] = ("policy", "reference?", "preferences")
    ignores: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("prompt", "chosen", "rejected")
    needs_reference: bool = True
    reference_tokens: bool = False
    beta: float | None = 0.1
    paper: str = ""


@dataclass(frozen=True)
class Trainer(Part):
    """What runs a family of methods; `generates`: with a generator, whose name then enters the key."""

    generates: bool = False


@dataclass(frozen=True)
class Judge(Part):
    """One way to compare answers.

    Attributes:
        options: Type of its `options`.
        needs: Input that it falls back on where `options.model` is empty: policy, reward_model, or nothing.
    """

    options: type[StageConfig] = options.NoOptions
    needs: str = ""


@dataclass(frozen=True)
class Reward(Part):
    """One source of scores in training.

    Attributes:
        options: Type of its `options`.
        needs: Input of `align` that it reads: reward_model, or nothing.
    """

    options: type[StageConfig] = options.NoOptions
    needs: str = ""


@dataclass(frozen=True)
class Advantage(Part):
    """One way from token rewards to advantages; `needs_values`: from the values of a value model."""

    needs_values: bool = False


@dataclass(frozen=True)
class Format(Part):
    """One raw format of data; `kinds` are the tables that its rows can become."""

    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluator(Part):
    """One family of numbers about the aligned model; `needs` names the inputs that it cannot do without."""

    needs: tuple[str, ...] = ()


STAGES: Mapping[str, Stage] = {
    "init": Stage(
        "alignflow.models.initialise:initialise", "Load the base model, or build a small one.",
        config=inputs.InitConfig, makes="checkpoint", version="3",
    ),
    "prepare": Stage(
        "alignflow.data.prepare:prepare", "Parse, clean, split and describe the data.",
        config=inputs.PrepareConfig, takes=("tokenizer",), makes="dataset", version="3",
    ),
    "sft": Stage(
        "alignflow.models.trainers.sft:train_sft", "Supervised fine-tuning on assistant tokens.",
        config=training.SFTConfig, takes=("base", "demonstrations"), makes="checkpoint", trains=True, version="4",
    ),
    "sample": Stage(
        "alignflow.models.generation.sample:sample", "Sample candidate answers.",
        config=generation.SampleConfig, takes=("policy", "prompts"), makes="dataset", generates=True,
        fills="alignflow.models.generation.sample:fill_samples",
    ),
    "label": Stage(
        "alignflow.models.judges.label:label", "An AI judge turns candidates into preference data.",
        config=generation.LabelConfig, takes=("completions", "policy?", "reward_model?"), makes="dataset", generates=True,
        version="2", fills="alignflow.models.judges.label:fill_labels",
    ),
    "reward": Stage(
        "alignflow.models.trainers.reward:train_reward", "Bradley-Terry reward model.",
        config=training.RewardConfig, takes=("base", "preferences"), makes="reward_model", trains=True, version="4",
    ),
    "reference": Stage(
        "alignflow.models.reference:compute_reference", "Log-probabilities of the pairs under the frozen reference.",
        config=training.ReferenceConfig, takes=("checkpoint", "preferences"), makes="dataset", scores=True,
        version="2",
    ),
    "align": Stage(
        "alignflow.models.trainers.alignment:align", "Align the SFT model by a method of the catalogue.",
        version="4", config=training.AlignConfig,
        takes=("policy", "reference?", "preferences?", "prompts?", "reward_model?", "demonstrations?"), makes="checkpoint", trains=True,
    ),
    "evaluate": Stage(
        "alignflow.models.evaluators.evaluate:evaluate", "Aligned against SFT on held-out prompts.",
        config=generation.EvaluateConfig, takes=("aligned", "sft", "prompts", "general?", "reward_model?"),
        makes="evaluation", generates=True, version="2", fills="alignflow.models.evaluators.evaluate:fill_answers",
    ),
    "report": Stage(
        "alignflow.data.report.body:report", "JSON and one HTML page about the run.",
        config=generation.ReportConfig,
        takes=("init?", "prepare?", "sft?", "sample?", "label?", "reward?", "reference?", "align?", "evaluate?"), makes="report",
    ),
    "adopt_reward": Stage(
        "alignflow.models.adopt:adopt_reward_model", "Take in a reward model that you already have.",
        config=inputs.AdoptConfig, makes="reward_model",
    ),
}  # fmt: skip

METHODS: Mapping[str, Method] = {
    "dpo": Method("alignflow.models.losses.dpo:dpo", "Direct Preference Optimization.", paper="2305.18290"),
    "ppo": Method(
        "alignflow.models.losses.ppo:total_loss", "Proximal Policy Optimization: RLHF with a value model.",
        options=online.PPOOptions, trainer="online", takes=("policy", "reference", "prompts", "reward_model?", "demonstrations?"),
        ignores=("beta", "label_smoothing", "use_soft_labels", "sft_coefficient", "eval_steps", "load_best_model_at_end",
                 "early_stopping_patience", "metric_for_best_model"), columns=("prompt",), beta=None, paper="1707.06347",
    ),
}  # fmt: skip

TRAINERS: Mapping[str, Trainer] = {
    "pairs": Trainer("alignflow.models.trainers.align:train_align", "Steps on preference pairs."),
    "online": Trainer("alignflow.models.trainers.online:train_online", "Samples answers, scores them, and steps on them.", generates=True),
}

ADVANTAGES: Mapping[str, Advantage] = {
    "gae": Advantage(
        "alignflow.models.advantages:gae_advantages", "Generalized advantage estimation from a value model.", needs_values=True
    ),
}

POLICY_LOSSES: Mapping[str, Part] = {
    "clip": Part("alignflow.models.losses.ppo:clip", "The clipped probability ratio of PPO, per token."),
}

REWARDS: Mapping[str, Reward] = {
    "reward_model": Reward(
        "alignflow.models.rewards.sources:RewardModelSource", "The recipe's reward model, from the text.", needs="reward_model"
    ),
    "judge": Reward(
        "alignflow.models.rewards.sources:JudgeSource", "A pointwise judge of the catalogue.", options=online.JudgeRewardOptions
    ),
    "function": Reward(
        "alignflow.models.rewards.sources:FunctionSource", "A verifiable Python function of the user.", options=online.FunctionRewardOptions
    ),
}

JUDGES: Mapping[str, Judge] = {
    "rubric": Judge(
        "alignflow.models.judges.rubric:RubricJudge", "Named, weighted, checkable principles; no model.",
        options=options.RubricOptions, version="2",
    ),
    "reward_model": Judge(
        "alignflow.models.judges.reward_model:RewardModelJudge", "Scores of a reward model.",
        options=options.RewardModelJudgeOptions, needs="reward_model",
    ),
    "llm": Judge(
        "alignflow.models.judges.llm:LLMJudge", "A local model, asked in both orders; reads option log-probabilities.",
        options=options.LLMJudgeOptions, needs="policy", version="3",
    ),
}  # fmt: skip

FORMATS: Mapping[str, Format] = {
    "messages": Format(
        "alignflow.data.sources.messages:parse", "OpenAI chat: messages[{role, content}].", version="2",
        kinds=("demonstrations", "prompts", "unpaired"),
    ),
    "sharegpt": Format(
        "alignflow.data.sources.sharegpt:parse", "ShareGPT: conversations[{from, value}].", version="2",
        kinds=("demonstrations", "prompts", "preferences", "unpaired"),
    ),
    "alpaca": Format(
        "alignflow.data.sources.alpaca:parse", "Alpaca: instruction, input, output, system, history.", version="2",
        kinds=("demonstrations", "prompts", "preferences", "unpaired"),
    ),
    "hh_rlhf": Format(
        "alignflow.data.sources.hh_rlhf:parse", "Anthropic hh-rlhf: whole transcripts in chosen and rejected.", version="2",
        kinds=("preferences", "demonstrations", "prompts"),
    ),
    "comparison": Format(
        "alignflow.data.sources.comparison:parse", "Several answers with scores or ranks.", version="2",
        kinds=("rankings", "preferences", "completions", "prompts", "demonstrations"),
    ),
    "trl": Format(
        "alignflow.data.sources.trl:parse", "TRL's columns: prompt, completion, chosen, rejected, label, completions.", version="3",
        kinds=("preferences", "demonstrations", "unpaired", "completions", "rankings", "prompts", "texts"),
    ),
    "oasst": Format(
        "alignflow.data.sources.oasst:parse", "OpenAssistant: trees of messages with ranks, one tree or one message in a row.",
        kinds=("demonstrations", "preferences", "rankings", "prompts"),
    ),
    "transcript": Format(
        "alignflow.data.sources.transcript:parse", "A whole conversation in a `text` column, such as guanaco's ### Human: ... ### Assistant: ...",
        kinds=("demonstrations", "prompts"),
    ),
    "text": Format(
        "alignflow.data.sources.text:parse", "Plain text: a `text` column, or a .txt file split at blank lines or <|endoftext|>.", version="2",
        kinds=("texts", "demonstrations", "prompts"),
    ),
}  # fmt: skip

EVALUATORS: Mapping[str, Evaluator] = {
    "win_rate": Evaluator("alignflow.models.evaluators.win_rate:evaluate", "Wins against SFT by each judge, asked in both orders.", version="2", needs=("judges",)),
    "instructions": Evaluator("alignflow.models.evaluators.instructions:evaluate", "Verifiable instructions kept, IFEval's kind.", needs=("instructions",)),
    "reward_score": Evaluator("alignflow.models.evaluators.reward_score:evaluate", "Mean reward of both models' answers.", needs=("reward_model",)),
    "kl": Evaluator("alignflow.models.evaluators.kl:evaluate", "KL of the aligned model to SFT on its own answers."),
    "text_statistics": Evaluator("alignflow.models.evaluators.text_statistics:evaluate", "Lengths, repetition and stop rate."),
    "heldout_nll": Evaluator("alignflow.models.evaluators.heldout_nll:evaluate", "NLL per token on general text.", needs=("general",)),
}  # fmt: skip

TABLES: Mapping[str, Mapping[str, Part]] = {
    "stages": STAGES, "methods": METHODS, "judges": JUDGES, "formats": FORMATS, "evaluators": EVALUATORS, "trainers": TRAINERS,
    "advantages": ADVANTAGES, "policy_losses": POLICY_LOSSES, "rewards": REWARDS,
}  # fmt: skip

P = TypeVar("P", bound=Part)


def look_up(table: Mapping[str, P], name: str, where: str) -> P:
    """Return the row `name`; raises RecipeError with the nearest valid name."""
    if name in table:
        return table[name]
    raise RecipeError(f"unknown name {quoted(name)}", where=where, do=suggest(name, table))


def parse_options(row: Method | Judge | Reward, values: Mapping[str, Any], where: str) -> Any:
    """Validate `options` by the row's model; raises RecipeError that names the field."""
    try:
        return row.options.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, row.options, where, "", place=where) from None
