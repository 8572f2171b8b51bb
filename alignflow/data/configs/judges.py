"""Options of the judges that ask a language model for more than a comparison, of the pairwise model, and of a jury."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import (
    ContentPath,
    Name,
    PrinciplesPath,
    QuestionPath,
    StageConfig,
    Temperature,
    runtime_field,
    seed_field,
)
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.options import JudgeModelOptions, LLMJudgeOptions


class ConstitutionalOptions(LLMJudgeOptions):
    """Asks a language model which answer keeps a principle better, in both orders."""

    prompt: QuestionPath = Field(
        default="constitutional", description="Jinja file of the question, or a built-in name: constitutional."
    )
    principles: PrinciplesPath = Field(
        default="helpful",
        description="YAML file of principles in words, or a built-in name: helpful, harmless, honest, concise, code_review.",
    )
    mode: Literal["sample", "each"] = Field(
        default="sample",
        description="sample: each prompt is judged by one principle, drawn by weight with seed and prompt; each: by every one, and the "
        "weighted mean of the probabilities is the label.",
    )


class ScoringOptions(JudgeModelOptions):
    """What judges share that score single answers."""

    temperature: Temperature = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="Score difference that turns into one logit of preference between two answers.",
    )
    flagged: Literal["keep", "drop"] = Field(
        default="keep",
        description="An answer that has marks of the judge's own: scored like others, or given no score.",
    )


class RatingOptions(ScoringOptions):
    """Asks a language model for a grade and takes the expected value over the grades' tokens."""

    prompt: QuestionPath = Field(
        default="rating", description="Jinja file of the question, or a built-in name: rating."
    )
    rubric: PrinciplesPath = Field(
        default="overall",
        description="YAML file of what is graded, each with a weight and a question of its own: overall (one grade), aspects "
        "(instruction following, truthfulness, honesty, helpfulness), any file of principles.",
    )
    lowest: int = Field(default=1, ge=0, le=9, description="Lowest grade.")
    highest: int = Field(
        default=5,
        ge=1,
        le=10,
        description="Highest grade; every grade must be a single token of the judge's tokenizer.",
    )
    signed: bool = Field(
        default=False,
        description="Map the score from the scale to -1..1, as direct RLAIF does (arXiv 2309.00267, section 2.2.2).",
    )

    @model_validator(mode="after")
    def _the_scale_has_two_ends(self) -> RatingOptions:
        if self.lowest >= self.highest:
            raise ValueError("lowest must be below highest")
        return self


class AdditiveOptions(ScoringOptions):
    """Has a language model add up points and write a score, as Self-Rewarding does."""

    prompt: QuestionPath = Field(
        default="additive", description="Jinja file of the question, or a built-in name: additive."
    )
    samples: int = Field(
        default=3, ge=1, le=64, description="Replies to each question; the mean of their scores counts."
    )
    max_new_tokens: int = Field(default=256, ge=4, le=100_000, description="Longest reply, tokens.")
    sampling_temperature: Temperature = Field(default=0.7, ge=0, le=5, description="Of the replies; 0: greedy.")
    top_p: float = Field(default=0.9, gt=0, le=1, description="Nucleus of the replies; 1: off.")
    seed: int = seed_field("With the question's text and the number of the reply it seeds each.")

    @model_validator(mode="after")
    def _greedy_replies_are_all_the_same(self) -> AdditiveOptions:
        if self.sampling_temperature == 0 and self.samples > 1:
            raise ValueError("samples: greedy replies to one question are all the same: set it to 1")
        return self


class ChecklistOptions(ScoringOptions):
    """Has a language model write points to check for each prompt, and answer each with yes or no for an answer."""

    write_prompt: QuestionPath = Field(
        default="checklist", description="Jinja file that asks for the points, or a built-in name: checklist."
    )
    prompt: QuestionPath = Field(
        default="point", description="Jinja file that asks whether an answer keeps a point, or a built-in name: point."
    )
    points: PrinciplesPath | None = Field(
        default=None, description="YAML file of fixed points for every prompt; empty: the model writes them."
    )
    options: tuple[Name, Name] = Field(default=("Yes", "No"), description="The two answers to a point: kept, not kept.")
    max_points: int = Field(default=6, ge=1, le=50, description="Points of a prompt; of more the first ones count.")
    max_new_tokens: int = Field(default=256, ge=4, le=100_000, description="Longest list of points, tokens.")
    sampling_temperature: Temperature = Field(default=0.0, ge=0, le=5, description="Of the points; 0: greedy.")
    seed: int = seed_field("With the prompt's text it seeds its points.")


class JuryMember(JudgeConfig):
    """One judge of a jury."""

    weight: float = Field(default=1.0, ge=0, le=1_000_000, description="Of its say, where combine is weighted.")
    agreement: ContentPath | None = Field(
        default=None,
        description="In place of weight: its judge report (`alignflow judge-eval`), whose accuracy against gold labels weighs it by its "
        "log-odds; at chance or below it weighs nothing.",
    )


class JuryOptions(StageConfig):
    """Several judges, and how their verdicts become one."""

    judges: tuple[JuryMember, ...] = Field(
        min_length=2, max_length=32, description="The members: each a judge with its own options and engine."
    )
    combine: Literal["mean", "majority", "weighted"] = Field(
        default="mean",
        description="mean of the probabilities; majority: share of the votes; weighted: mean by the members' weight or agreement.",
    )
    quorum: int = Field(default=1, ge=1, le=32, description="Members that must give a label; with fewer there is none.")

    @model_validator(mode="after")
    def _weights_fit(self) -> JuryOptions:
        reports = [member for member in self.judges if member.agreement is not None]
        weighed = [member for member in self.judges if "weight" in member.model_fields_set]
        if self.combine != "weighted" and (reports or weighed):
            raise ValueError(f"weight and agreement of members are not read where combine is {self.combine}")
        if reports and (weighed or len(reports) < len(self.judges)):
            raise ValueError("agreement: give a report for every member, and no weight")
        if self.combine == "weighted" and not reports and not weighed:
            raise ValueError("combine: weighted needs a weight, or an agreement, of its members")
        if not any(member.weight for member in self.judges):
            raise ValueError("one member at least must have a weight above 0")
        if self.quorum > len(self.judges):
            raise ValueError(f"quorum: there are only {len(self.judges)} judges")
        return self


class PairRMOptions(StageConfig):
    """A model that reads a prompt and two answers together and gives one logit."""

    model: ContentPath = Field(
        description="Directory or Hub id of an AutoModelForSequenceClassification with one label: the logit that the first answer is better."
    )
    max_length: int = Field(
        default=1024, ge=16, le=10_000_000, description="Longest input, tokens; a longer one gets no label."
    )
    batch_size: int = runtime_field(default=16, ge=1, le=4096, description="Inputs of one forward pass.")
