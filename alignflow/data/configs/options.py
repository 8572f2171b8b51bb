"""What one method or one judge alone has: the `options` of a recipe, validated by the catalogue's row."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import (
    ConstitutionPath,
    ContentPath,
    Name,
    QuestionPath,
    StageConfig,
    Temperature,
    TemplateArguments,
    seed_field,
)


class NoOptions(StageConfig):
    """Nothing beyond the common fields."""


class RubricOptions(StageConfig):
    """Scores by named, weighted, checkable principles."""

    constitution: ConstitutionPath = Field(
        default="helpful", description="YAML file of principles, or a built-in name: helpful, reader."
    )
    temperature: Temperature = Field(
        default=0.1, gt=0, le=1000, description="Score difference that turns into one logit of preference."
    )


class RewardModelJudgeOptions(StageConfig):
    """Scores by a reward model: the recipe's own, or another directory."""

    model: ContentPath | None = Field(default=None, description="Directory of a reward model; empty: the recipe's.")


class JudgeModelOptions(StageConfig):
    """What every judge has that asks a language model."""

    model: ContentPath | None = Field(
        default=None, description="Directory or Hub id of the judge model; empty: the SFT model."
    )
    max_length: int = Field(
        default=1024, ge=64, le=10_000_000, description="Longest question, tokens; a longer one gets no label."
    )
    thinking_tokens: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Room for a model that thinks before it answers (<think>), tokens; its answer is read after that. 0: it answers at once.",
    )
    thinking_temperature: Temperature = Field(
        default=0.6, ge=0, le=5, description="Temperature of thinking, where thinking_tokens gives it room; 0: greedy."
    )
    chat_template_kwargs: TemplateArguments = Field(
        default_factory=dict,
        description="Values for variables of the judge's chat template, such as enable_thinking: false.",
    )


class LLMJudgeOptions(JudgeModelOptions):
    """Asks a language model which answer is better, in both orders, and reads the option log-probabilities."""

    prompt: QuestionPath = Field(
        default="pairwise", description="Jinja file of the question, or a built-in name: pairwise."
    )
    options: tuple[Name, Name] = Field(default=("A", "B"), description="The two answers that the model may give.")
    rationale: bool = Field(
        default=False,
        description="Have a comparison written first, in each order, and read the options after it; it is kept beside the verdict.",
    )
    rationale_prompt: QuestionPath = Field(
        default="rationale", description="Jinja file that asks for the comparison; prompt is not read then."
    )
    verdict_prompt: QuestionPath = Field(
        default="verdict", description="Jinja file that asks for one of the options after the comparison."
    )
    rationale_tokens: int = Field(default=160, ge=1, le=100_000, description="Longest comparison, tokens.")
    rationale_temperature: Temperature = Field(
        default=0.0, ge=0, le=5, description="Temperature of the comparison; 0: greedy."
    )
    seed: int = seed_field("With the question's text it seeds what the judge writes.")
    flagged: Literal["keep", "drop"] = Field(
        default="keep",
        description="Pairs with an answer that has marks of the judge's own: judged like others, or given no label.",
    )

    @model_validator(mode="after")
    def _answers_are_told_apart(self) -> LLMJudgeOptions:
        if self.options[0].strip() == self.options[1].strip():
            raise ValueError("the two answers that the model may give must differ")
        return self
