"""Configs of the two stages that take in what the user has: the base model and the data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from alignflow.data.configs.base import (
    ContentPath,
    ModelPath,
    Name,
    NameOrFile,
    StageConfig,
    TemplateArguments,
    runtime_field,
    seed_field,
)
from alignflow.data.configs.explaining import suggest
from alignflow.data.errors import quoted

STANDARD_COLUMNS = (
    "prompt",
    "completion",
    "completions",
    "chosen",
    "rejected",
    "label",
    "kto_tag",
    "scores",
    "ended",
    "soft_label",
    "margin",
    "score_chosen",
    "score_rejected",
    "chosen_ended",
    "rejected_ended",
    "response_a",
    "response_b",
    "preference",
    "votes",
    "annotator",
    "judge",
    "principle",
    "rationale",
    "weight",
    "confidence",
    "p_given",
    "p_swapped",
    "messages",
    "conversations",
    "system",
    "history",
    "instruction",
    "input",
    "output",
    "responses",
    "answers",
    "text",
    "tools",
    "images",
    "instructions",
    "instruction_id_list",
    "kwargs",
    "reference",
    "verifier",
)
"""Names of columns that the formats read."""


class SourceConfig(StageConfig):
    """One source of data: a file, a directory saved by `datasets`, or a Hub id."""

    path: ContentPath = Field(
        description="Local file (jsonl, json, csv, tsv, parquet, arrow, txt; also .gz, .bz2, .xz, .zst), folder or pattern of such, saved data set, or Hub id."
    )
    format: Name = Field(default="auto", description="A name of `alignflow formats`, or auto to detect it.")
    columns: dict[Name, Name] = Field(
        default={},
        max_length=50,
        description="Standard name of a column -> its name here, with dots for one inside another (`prompt: data.question`).",
    )
    split: Name = Field(default="train", description="Split to read, for data sets that have several.")
    revision: Name | None = runtime_field(
        default=None, description="Commit, branch or tag of a Hub data set; its commit is pinned either way."
    )
    weight: float = Field(default=1.0, gt=0, le=1, description="Share of the rows to keep, chosen by their hash.")
    max_rows: int | None = Field(default=None, gt=0, le=1_000_000_000_000, description="Keep at most this many rows.")
    min_confidence: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Drop pairs whose `confidence`, or else `soft_label`, is lower; a pair with neither stays.",
    )
    licence: str = Field(
        default="unknown", max_length=1000, description="Licence of the data; travels into manifests and cards."
    )

    @field_validator("columns")
    @classmethod
    def _names_that_formats_read(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in STANDARD_COLUMNS:
                raise ValueError(f"no format reads a column {quoted(name)}; {suggest(name, STANDARD_COLUMNS)}")
        return columns


class BuildConfig(StageConfig):
    """A small Llama-architecture model, initialised at random, with a tokenizer trained on the corpus."""

    hidden_size: int = Field(default=128, ge=16, le=4096, description="Width.")
    num_hidden_layers: int = Field(default=4, ge=1, le=64, description="Depth.")
    num_attention_heads: int = Field(default=4, ge=1, le=256, description="Attention heads; must divide the width.")
    num_key_value_heads: int = Field(default=4, ge=1, le=256, description="Key and value heads.")
    intermediate_size: int = Field(default=384, ge=16, le=65536, description="Width of the MLP.")
    vocab_size: int = Field(
        default=1024, ge=270, le=1_000_000, description="Size of the byte-level BPE vocabulary to train."
    )
    max_position_embeddings: int = Field(default=256, ge=32, le=1_048_576, description="Context length, tokens.")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> BuildConfig:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                "num_attention_heads must divide hidden_size, and num_key_value_heads must divide num_attention_heads"
            )
        return self


class InitConfig(StageConfig):
    """The base model: loaded, or built small from a config."""

    path: ModelPath | None = Field(
        default=None, description="Local directory or Hub id of the base model; empty to build one."
    )
    revision: Name | None = runtime_field(
        default=None, description="Commit, branch or tag of a Hub model; its commit is pinned either way."
    )
    build: BuildConfig = Field(default_factory=BuildConfig, description="The model to build where no path is given.")
    corpus: tuple[SourceConfig, ...] = Field(
        default=(),
        description="What the tokenizer of a built model is trained on; empty: the recipe's demonstrations, prompts and general text.",
    )
    chat_template: NameOrFile = Field(
        default="auto",
        description="auto: keep the model's own, else `instruction` (`turns` for a built model); or instruction, plain, chatml, or the path of a Jinja file.",
    )
    chat_template_kwargs: TemplateArguments = Field(
        default_factory=dict,
        description="Values for variables of the chat template, such as enable_thinking: false; written into it.",
    )
    trust_remote_code: bool = Field(
        default=False, description="Run code shipped with the model. Off unless you trust its authors."
    )
    licence: str = Field(
        default="unknown", max_length=1000, description="Licence of the base model; travels into manifests and cards."
    )
    seed: int = seed_field("Seed of the initial weights.")


class PrepareConfig(StageConfig):
    """Parse, clean, split and describe the data."""

    demonstrations: tuple[SourceConfig, ...] = Field(default=(), description="Prompts with good answers, for SFT.")
    prompts: tuple[SourceConfig, ...] = Field(
        default=(), description="Prompts to sample answers for; empty: those of the demonstrations."
    )
    preferences: tuple[SourceConfig, ...] = Field(
        default=(),
        description="Pairs that you already have: sample and label are then left out, unless `label.mix` puts them beside the judge's.",
    )
    completions: tuple[SourceConfig, ...] = Field(
        default=(), description="Completions that you already have: sampling is then left out."
    )
    unpaired: tuple[SourceConfig, ...] = Field(
        default=(), description="Answers with a good or bad label, for methods that take them."
    )
    rankings: tuple[SourceConfig, ...] = Field(
        default=(), description="Several answers to a prompt with scores, for methods that take lists."
    )
    evaluation: tuple[SourceConfig, ...] = Field(
        default=(), description="Prompts for evaluation; empty: the held-out side of the prompts."
    )
    general: tuple[SourceConfig, ...] = Field(
        default=(), description="General text for the held-out NLL; empty: held-out demonstrations."
    )
    system: Literal["keep", "merge"] = Field(
        default="keep",
        description="System turns of a model whose chat template takes none: keep drops their rows, merge puts them before the first user turn.",
    )
    max_length: int = Field(
        default=512, ge=8, le=10_000_000, description="Drop rows over this many tokens (prompt and answer)."
    )
    max_prompt_length: int = Field(default=256, ge=4, le=10_000_000, description="Drop prompts over this many tokens.")
    heldout_fraction: float = Field(
        default=0.1, gt=0, lt=0.9, description="Share of prompts on the held-out side, by hash of the prompt."
    )
    near_duplicate_threshold: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Drop a row whose word 3-gram Jaccard similarity to an earlier one reaches this; 1 turns it off.",
    )
    decontaminate_ngram: int = Field(
        default=8,
        ge=0,
        le=10_000,
        description="Drop training rows that share this many consecutive words with an evaluation prompt; 0: exact prompts only.",
    )
    max_broken_fraction: float = Field(
        default=0.05, ge=0, le=1, description="Stop when more than this share of a source's rows is broken."
    )
    max_dropped_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Stop when more than this share of a table's rows is dropped; equal rows, weight and max_rows do not count.",
    )
    truncate: bool = Field(
        default=False, description="Cut over-long prompts from the left instead of refusing them at sampling."
    )


SOURCE_KINDS = tuple(
    name for name, field in PrepareConfig.model_fields.items() if field.annotation == tuple[SourceConfig, ...]
)
"""Fields of `data` that name sources."""
PROMPTED = ("demonstrations", "preferences", "unpaired", "rankings")
"""Kinds whose prompts stand in where the config names none: the first of these that it has."""


class AdoptConfig(StageConfig):
    """A result that you already have, taken into the store."""

    path: ModelPath = Field(description="Directory of the model, its tokenizer included.")
