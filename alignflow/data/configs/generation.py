"""Configs of the stages that generate and judge: sample, label, evaluate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import Name, StageConfig, Temperature, runtime_field, seed_field
from alignflow.data.configs.generators import GeneratorConfig, generator_field
from alignflow.data.configs.lm_eval import LmEvalConfig
from alignflow.data.configs.verifiers import PerRowRewardOptions


class SampleConfig(StageConfig):
    """Candidate answers from a checkpoint."""

    n: int = Field(default=4, ge=1, le=64, description="Completions per prompt.")
    max_prompts: int | None = Field(
        default=None, gt=0, le=1_000_000_000, description="Sample at most this many prompts, chosen by hash."
    )
    max_new_tokens: int = Field(
        default=64, ge=1, le=1_000_000, description="Longest completion, tokens; one cut here has no EOS."
    )
    max_prompt_length: int = Field(
        default=256,
        ge=4,
        le=10_000_000,
        description="Longest prompt, tokens; a longer one is an error unless truncate.",
    )
    prompt_parts: int = Field(
        default=1, ge=1, le=1000, description="Parts into which the prompts are cut, by hash; 1: they are not."
    )
    prompt_part: int = Field(
        default=1, ge=1, le=1000, description="The part that is sampled; rounds take one after the other."
    )
    truncate: bool = Field(default=False, description="Cut over-long prompts from the left.")
    temperature: Temperature = Field(default=1.0, ge=0, le=5, description="0: greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus; 1: off.")
    top_k: int = Field(default=0, ge=0, le=10_000_000, description="0: off.")
    seed: int = seed_field("With the row's id it seeds each completion.")
    generator: GeneratorConfig | None = generator_field()
    batch_size: int = runtime_field(
        default=256, gt=0, le=1_000_000, description="Rows that are handed to the engine, and committed, together."
    )
    shards: int = runtime_field(
        default=1,
        ge=1,
        le=256,
        description="Processes that sample at once, each with the model in its memory; `engine.task_runner` says where.",
    )

    @model_validator(mode="after")
    def _the_part_is_there(self) -> SampleConfig:
        if self.prompt_part > self.prompt_parts:
            raise ValueError(f"prompt_part {self.prompt_part}: there are {self.prompt_parts} parts, see prompt_parts")
        return self


class JudgeConfig(StageConfig):
    """One judge of the catalogue."""

    name: str = Field(
        default="rubric",
        min_length=1,
        max_length=4500,
        description="A name of `alignflow judges`, or your own: path/to/file.py:Class, package.module:Class.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What this judge alone has; see `alignflow judges JUDGE`."
    )
    generator: GeneratorConfig | None = generator_field()


class AnswerLabelsConfig(StageConfig):
    """How the scores of a prompt's answers become good and bad ones, for methods that learn from single answers."""

    by: Literal["rank", "score"] = Field(
        default="rank",
        description="rank: the best answers of each prompt are good, the worst are bad; score: two limits decide.",
    )
    best: int = Field(default=1, ge=1, le=64, description="Good answers of a prompt, by rank.")
    worst: int = Field(default=1, ge=1, le=64, description="Bad answers of a prompt, by rank.")
    good_at_least: float = Field(
        default=0.5,
        ge=-1_000_000,
        le=1_000_000,
        description="An answer with this score or a higher one is good. Scores of a pairwise judge are win rates, from 0 to 1.",
    )
    bad_below: float = Field(
        default=0.5,
        ge=-1_000_000,
        le=1_000_000,
        description="An answer with a lower score is bad; one between both limits is dropped and counted.",
    )

    @model_validator(mode="after")
    def _limits_are_read_and_in_order(self) -> AnswerLabelsConfig:
        unread = ("good_at_least", "bad_below") if self.by == "rank" else ("best", "worst")
        for name in unread:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is not read where by is {self.by}")
        if self.bad_below > self.good_at_least:
            raise ValueError("bad_below must not be above good_at_least: an answer would be good and bad")
        return self


class LabelConfig(StageConfig):
    """An AI judge turns candidates into preference data: pairs, rankings with scores, and answers labelled good or bad."""

    judge: JudgeConfig = Field(default_factory=JudgeConfig, description="Who labels.")
    unpaired: AnswerLabelsConfig = Field(
        default_factory=AnswerLabelsConfig, description="Which answers are labelled good and bad."
    )
    pairs_per_prompt: int = Field(default=2, ge=1, le=64, description="Pairs kept per prompt, widest margin first.")
    min_margin: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Drop pairs whose preference probability is nearer than this to one half.",
    )
    all_pairs_up_to: int = Field(
        default=4,
        ge=2,
        le=64,
        description="A pairwise judge compares all pairs of up to so many answers to a prompt; of more, each meets four others.",
    )
    include_reference: bool = Field(
        default=False,
        description="Judge the reference answer of a prompt beside the sampled ones, where the data has one.",
    )
    min_win_rate_gap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Table win_rates: leave out prompts whose best and worst answer have win rates nearer to each other than this.",
    )
    mix: Literal["off", "override", "join"] = Field(
        default="off",
        description="Pairs of `data.preferences`, as people labelled them, beside the judge's. off: they are all there is, and nothing is labelled; "
        "override: of a pair that both have labelled, theirs stands; join: the mean of both soft labels, by weight.",
    )
    given_weight: float = Field(
        default=1.0,
        gt=0,
        le=1_000_000,
        description="What a pair of `data.preferences` counts, times its own weight, where a pair of the judge counts 1.",
    )
    min_confidence: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Drop pairs whose `confidence`, or else `soft_label`, is lower; a pair with neither stays.",
    )
    heldout_fraction: float = Field(
        default=0.1, gt=0, lt=0.9, description="Share of prompts on the held-out side, by hash of the prompt."
    )
    calibrate: bool = Field(
        default=False,
        description="Calibrate soft labels by what judge_eval fitted on human labels, where that helps on others; the judge's own are kept.",
    )
    seed: int = seed_field("Seed of the judge, where it samples.")
    batch_size: int = runtime_field(
        default=64, gt=0, le=1_000_000, description="Prompts that are judged and committed together."
    )
    shards: int = runtime_field(
        default=1,
        ge=1,
        le=256,
        description="Processes that judge at once, each with the judge in its memory; `engine.task_runner` says where.",
    )


class EvaluateConfig(StageConfig):
    """The aligned model against the SFT model on held-out prompts."""

    labelling_judge: JudgeConfig | None = Field(default=None, description="Filled from label.judge.")
    judges: tuple[JudgeConfig, ...] = Field(
        default=(), description="Judges beside the labelling one; a rubric here must share no principle with it."
    )
    evaluators: tuple[Name, ...] = Field(
        default=("win_rate", "instructions", "reward_score", "kl", "text_statistics", "heldout_nll"),
        description="Names of `alignflow evaluators`; those whose inputs the recipe lacks are left out and said so.",
    )
    verifiable: PerRowRewardOptions | None = Field(
        default=None,
        description="Checks of the evaluator `verifiable`; empty: the first that give rewards in align, else those that rows name.",
    )
    lm_eval: LmEvalConfig | None = Field(
        default=None, description="Tasks of the evaluator `lm_eval`, which evaluators must name then."
    )
    max_prompts: int = Field(
        default=200, ge=1, le=1_000_000_000, description="Held-out prompts at most, chosen by hash."
    )
    max_new_tokens: int = Field(default=64, ge=1, le=1_000_000, description="Longest completion, tokens.")
    temperature: Temperature = Field(default=0.7, ge=0, le=5, description="Sampling temperature of both models.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus; 1: off.")
    max_general_rows: int = Field(
        default=200, ge=1, le=1_000_000_000, description="Rows of general text for the held-out NLL."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Level of the intervals.")
    samples: int = Field(
        default=20,
        ge=0,
        le=50,
        description="Prompts whose answers the report shows with verdicts: a quarter the clearest wins, a quarter the clearest losses, the rest at random.",
    )
    seed: int = seed_field("With the row's id it seeds each completion.")
    generator: GeneratorConfig | None = generator_field()
    batch_size: int = runtime_field(default=64, gt=0, le=1_000_000, description="Rows that are computed together.")
    shards: int = runtime_field(
        default=1, ge=1, le=256, description="Processes that answer at once; the evaluators come after them, in one."
    )

    @model_validator(mode="after")
    def _evaluators_are_named_once(self) -> EvaluateConfig:
        for name in self.evaluators:
            if self.evaluators.count(name) > 1:
                raise ValueError(f"evaluators: {name!r} is there twice")
        if self.lm_eval is not None and "lm_eval" not in self.evaluators:
            raise ValueError("lm_eval is set, and evaluators does not name it: add lm_eval to evaluators")
        return self


class ReportConfig(StageConfig):
    """JSON and one self-contained HTML page about the run."""

    title: str = Field(default="", max_length=500, description="Heading of the page; empty: the name of the recipe.")
    found: tuple[str, ...] = runtime_field(
        default=(), description="Filled by the run: the steps whose artifacts it found in the store."
    )
