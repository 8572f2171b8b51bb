"""Options of checks of an answer that a program can make, and which of them a row gets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import ContentPath, Name, StageConfig


class VerifierConfig(StageConfig):
    """One check of an answer."""

    name: Name = Field(default="numeric_answer", description="A name of `alignflow verifiers`.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="What this check alone has; see `alignflow verifiers NAME`."
    )


class VerifierRewardOptions(StageConfig):
    """One check for all rows."""

    verifier: VerifierConfig = Field(default_factory=VerifierConfig, description="The check.")


class PerRowRewardOptions(StageConfig):
    """The check that a row names in its column `verifier`; `ifeval` for a row with verifiable instructions and no such name."""

    verifiers: tuple[VerifierConfig, ...] = Field(
        default=tuple(
            VerifierConfig(name=name)
            for name in ("numeric_answer", "exact_answer", "regular_expression", "json_schema", "ifeval")
        ),
        max_length=100,
        description="Checks that rows may name, each with its options; none: all rows get `otherwise`, whatever they name.",
    )
    otherwise: VerifierConfig | None = Field(
        default=None, description="The check of a row that names none; empty: such a row has no score."
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> PerRowRewardOptions:
        names = [verifier.name for verifier in self.verifiers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"verifiers: {name!r} is there twice, and a row could not say which one it means")
        return self


class ExactAnswerOptions(StageConfig):
    """The reference answer, word for word."""

    answer_from: Literal["whole", "marked", "last_line"] = Field(
        default="whole",
        description="Where in a text the answer is: all of it; what the last mark (####, boxed, `the answer is`) shows; the last line with something in it.",
    )
    ignore_case: bool = Field(default=True, description="Letters count in lower case.")
    ignore_punctuation: bool = Field(
        default=True, description="Punctuation at the ends of the answer does not count, nor do runs of spaces."
    )
    several: bool = Field(
        default=False, description="The reference is a JSON list of answers, of which any one is right."
    )


class NumericAnswerOptions(StageConfig):
    """The number that a worked solution ends with."""

    answer_from: Literal["marked_or_last", "marked", "last", "whole"] = Field(
        default="marked_or_last",
        description="The number that the last mark (####, boxed, `the answer is`) shows; the last number of the text; a text that is a number alone.",
    )
    tolerance: float = Field(
        default=0.0, ge=0, le=1_000_000, description="Largest difference to the reference that still counts as right."
    )


class RegularExpressionOptions(StageConfig):
    """A pattern that the answer has to match."""

    pattern: str = Field(
        default="",
        max_length=10_000,
        description="Pattern of Python's syntax; empty: the row's reference is the pattern.",
    )
    match: Literal["search", "full"] = Field(
        default="search", description="Anywhere in the answer, or the whole answer but for spaces at its ends."
    )
    expect: Literal["match", "no_match"] = Field(default="match", description="What scores 1.")
    ignore_case: bool = Field(default=False, description="Letters match in both cases.")
    max_characters: int = Field(
        default=20_000, ge=1, le=1_000_000, description="A longer answer scores 0 and is not searched."
    )
    timeout_s: float = Field(
        default=2.0,
        ge=0.01,
        le=60,
        description="Seconds after which a search is given up; the answer then has no score.",
    )


class JSONSchemaOptions(StageConfig):
    """JSON that a schema allows."""

    schema_file: ContentPath | None = Field(
        default=None, description="JSON file with the schema; empty: the row's reference is the schema."
    )
    take_from: Literal["fence_or_whole", "fence", "whole"] = Field(
        default="fence_or_whole",
        description="Where the JSON is: the last block between ``` lines, or the whole answer.",
    )


class LengthOptions(StageConfig):
    """A length within bounds."""

    unit: Literal["tokens", "words", "characters"] = Field(
        default="tokens", description="What is counted; tokens are the policy's, its stop token included."
    )
    least: int = Field(default=0, ge=0, le=1_000_000, description="Shortest length that scores 1.")
    most: int | None = Field(default=None, ge=0, le=1_000_000, description="Longest length that scores 1; empty: any.")
    falls_over: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Units outside of the bounds over which the score falls from 1 to 0 in a line; 0: at once.",
    )

    @model_validator(mode="after")
    def _bounds_say_something(self) -> LengthOptions:
        if self.most is None and not self.least:
            raise ValueError("least, most: every length would score 1; set one of them")
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most: {self.most} is under least, {self.least}")
        return self


class IFEvalOptions(StageConfig):
    """Instructions of IFEval's kind (Zhou et al. 2023, arXiv 2311.07911)."""

    reading: Literal["strict", "loose"] = Field(
        default="strict",
        description="loose: an instruction is kept if it is without the first line, the last line or asterisks, too.",
    )
    score: Literal["prompt", "instruction"] = Field(
        default="prompt", description="1 for all instructions of the row, or the share of them that is kept."
    )
