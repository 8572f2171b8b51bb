"""Config of the stage that has answers criticised and revised."""

from __future__ import annotations

from pydantic import Field

from alignflow.data.configs.base import (
    ContentPath,
    PrinciplesPath,
    QuestionPath,
    Temperature,
    runtime_field,
    seed_field,
)
from alignflow.data.configs.generators import GeneratorConfig, generator_field
from alignflow.data.configs.options import JudgeModelOptions


class ReviseConfig(JudgeModelOptions):
    """A language model criticises each answer by a principle and writes it anew: Constitutional AI's supervised phase."""

    model: ContentPath | None = Field(
        default=None, description="Directory or Hub id of the model that revises; empty: the one that answered."
    )
    principles: PrinciplesPath = Field(
        default="helpful",
        description="YAML file of principles in words, or a built-in name: helpful, harmless, honest, concise, code_review.",
    )
    rounds: int = Field(
        default=1, ge=1, le=16, description="Critiques and revisions of an answer, each by a principle drawn anew."
    )
    critique_prompt: QuestionPath = Field(default="critique", description="Jinja file that asks for the critique.")
    revision_prompt: QuestionPath = Field(
        default="revision", description="Jinja file that asks for the new answer after it."
    )
    critique_tokens: int = Field(default=96, ge=1, le=100_000, description="Longest critique, tokens.")
    max_new_tokens: int = Field(default=128, ge=1, le=1_000_000, description="Longest revised answer, tokens.")
    temperature: Temperature = Field(default=0.7, ge=0, le=5, description="Of critiques and revisions; 0: greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus; 1: off.")
    max_length: int = Field(
        default=1024,
        ge=64,
        le=10_000_000,
        description="Longest question with its reply, tokens; an answer whose question is longer is not revised.",
    )
    heldout_fraction: float = Field(
        default=0.1, gt=0, lt=0.9, description="Share of prompts on the held-out side, by hash of the prompt."
    )
    seed: int = seed_field("It draws principles and seeds what is written, with the row's id.")
    generator: GeneratorConfig | None = generator_field()
    batch_size: int = runtime_field(
        default=64, gt=0, le=1_000_000, description="Answers that are revised and committed together."
    )
    shards: int = runtime_field(
        default=1,
        ge=1,
        le=256,
        description="Processes that revise at once, each with the model in its memory; `engine.task_runner` says where.",
    )
