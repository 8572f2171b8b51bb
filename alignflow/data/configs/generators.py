"""Which engine runs the model of a role: that which samples, each judge, that which answers in an evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from alignflow.data.configs.base import Name, StageConfig


class GeneratorConfig(StageConfig):
    """One engine of `alignflow generators`. A name alone stands for the engine with its defaults: `generator: vllm`."""

    name: Name = Field(
        default="auto",
        description="A name of `alignflow generators`; auto: vLLM where it is installed and the chip is a GPU, else transformers.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="What this engine alone has.")

    @model_validator(mode="before")
    @classmethod
    def _from_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_need_a_name(self) -> GeneratorConfig:
        if self.name == "auto" and self.options:
            raise ValueError("options belong to one engine: set its name beside them")
        return self


def generator_field() -> Any:
    """The engine of one role in its own section."""
    return Field(default=None, description="What runs the model; empty: engine.generator.")
