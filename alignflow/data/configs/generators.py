"""Which engine runs the model of a role: that which samples, each judge, that which answers in an evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from alignflow.data.configs.base import Name, StageConfig, runtime_field


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


class VLLMOptions(StageConfig):
    """Options of the engine vllm. What changes speed, memory or rounding alone is no part of a key."""

    max_model_len: int | None = Field(
        default=None,
        ge=16,
        le=10_000_000,
        description="Most tokens of prompt and answer together; empty: the model's own limit, for which there must be memory.",
    )
    kv_cache_gib: float = runtime_field(
        default=1.0, gt=0, le=4096, description="Memory for keys and values on a CPU, GiB."
    )
    gpu_memory_utilization: float = runtime_field(
        default=0.8, gt=0, lt=1, description="Share of a GPU's memory that vLLM takes."
    )
    tensor_parallel: int = runtime_field(default=1, ge=1, le=64, description="GPUs that share the model.")
    enforce_eager: bool = runtime_field(
        default=True,
        description="false compiles the model: faster for many long answers, half a minute more at each start, on a CPU it needs g++.",
    )
    idle_s: float = runtime_field(
        default=60.0, ge=0, le=86_400, description="Seconds without a stage that uses it after which its process ends."
    )
