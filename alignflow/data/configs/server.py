"""Options of the engine `server`: an OpenAI-compatible endpoint, or vLLM's own server that the run starts for itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from alignflow.data.configs.base import ModelPath, Name, StageConfig, runtime_field
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.variables import never_passed

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _address(value: str) -> str:
    """An address without anything secret in it: it stands in manifests and messages."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no address of a server ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("is no address of a server: write http://HOST:PORT/v1 or https://HOST/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("has a login or a query in it: name the variable of the key in api_key_env instead")
    return value.rstrip("/")


def _variable(value: str) -> str:
    if why := never_passed(value):
        raise ValueError(f"{value} is never passed to a stage: {why}")
    return value


Address = Annotated[str, AfterValidator(_address)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"), AfterValidator(_variable)]
Block = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Price = Annotated[float, Field(ge=0, le=1_000_000)]


class ServeOptions(StageConfig):
    """vLLM's own server, which the run starts on the loopback for one stage and stops after it."""

    path: ModelPath | None = Field(
        default=None, description="Directory or Hub id of the model; empty: the role's own (policy, judge model)."
    )
    max_model_len: int | None = Field(
        default=None,
        ge=16,
        le=10_000_000,
        description="Longest question and reply, tokens; empty: the model's context.",
    )
    port: int | None = runtime_field(default=None, ge=1, le=65535, description="Port; empty: a free one.")
    kv_cache_gib: int = runtime_field(
        default=1,
        ge=1,
        le=4096,
        description="Memory for keys and values on a CPU, GiB; a GPU has gpu_memory_utilization.",
    )
    gpu_memory_utilization: float = runtime_field(
        default=0.9, gt=0, le=1, description="Share of the GPU's memory that the server takes."
    )
    start_timeout_s: float = runtime_field(
        default=300.0, gt=0, le=86_400, description="Seconds that it may take to answer for the first time."
    )


class ServerOptions(StageConfig):
    """An endpoint that speaks OpenAI's chat completions. Its model is known by name alone: raise `label` when its weights change."""

    model: Name | None = Field(
        default=None, description="Name that the endpoint knows the model by; needed beside urls."
    )
    label: str = Field(
        default="",
        max_length=200,
        description="A text of yours in the key: change it when the model behind the name changes.",
    )
    urls: tuple[Address, ...] = runtime_field(
        default=(), description="One or several addresses, http://HOST:PORT/v1, among which questions are spread."
    )
    serve: ServeOptions | None = Field(
        default=None, description="Start vLLM's own server for the stage instead; {}: with the role's own model."
    )
    api_key_env: Variable | None = runtime_field(
        default=None, description="Name of the environment variable that holds the API key."
    )
    api_key_block: Block | None = runtime_field(
        default=None, description="Name of the Prefect Secret block that holds the API key."
    )
    logprobs: Literal["auto", "never"] = Field(
        default="auto",
        description="auto: judges read log-probabilities where the endpoint gives them, else sampled verdicts; never: sampled verdicts.",
    )
    samples: int = Field(
        default=5, ge=1, le=1000, description="Sampled verdicts for each question where no log-probabilities are read."
    )
    thinking_tokens: int = Field(
        default=0, ge=0, le=1_000_000, description="Room for what the model thinks before it answers, tokens."
    )
    concurrency: int = runtime_field(default=16, ge=1, le=1024, description="Questions on their way at once.")
    requests_per_minute: int | None = runtime_field(
        default=None, ge=1, le=10_000_000, description="Most requests in any minute; empty: no limit."
    )
    tokens_per_minute: int | None = runtime_field(
        default=None,
        ge=1,
        le=10_000_000_000,
        description="Most tokens of questions and replies in any minute, as estimated.",
    )
    timeout_s: float = runtime_field(default=120.0, gt=0, le=86_400, description="Seconds that one request may take.")
    max_retries: int = runtime_field(
        default=6,
        ge=0,
        le=100,
        description="Further tries of a request after 429, 5xx, a timeout or a lost connection.",
    )
    most_nonsense: float = runtime_field(
        default=0.1, ge=0, le=1, description="Share of unusable replies above which the stage stops."
    )
    price_per_million_input: Price | None = runtime_field(
        default=None, description="Price of a million tokens of questions."
    )
    price_per_million_output: Price | None = runtime_field(
        default=None, description="Price of a million tokens of replies."
    )
    currency: str = runtime_field(default="USD", pattern=r"^[A-Z]{3}$", description="Currency of the prices.")
    max_cost: float | None = runtime_field(
        default=None, gt=0, le=1_000_000_000, description="The stage stops before one attempt of it costs more."
    )

    @model_validator(mode="after")
    def _there_is_one_server(self) -> ServerOptions:
        if bool(self.urls) == (self.serve is not None):
            raise ValueError("give urls, the addresses of servers, or serve, to start vLLM's own: one of them")
        if self.urls and self.model is None:
            raise ValueError("model is missing: the name that the endpoint knows it by")
        if self.serve is not None and (self.api_key_env or self.api_key_block or self.model):
            raise ValueError(
                "a server that the run starts has a name and a key of its own: leave model and api_key_* out"
            )
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("urls has an address twice")
        return self

    @model_validator(mode="after")
    def _money_has_prices(self) -> ServerOptions:
        if self.api_key_env and self.api_key_block:
            raise ValueError("give api_key_env or api_key_block, not both")
        if (self.price_per_million_input is None) != (self.price_per_million_output is None):
            raise ValueError("give both prices or none; one may be 0")
        if self.max_cost is not None and self.price_per_million_input is None:
            raise ValueError("max_cost needs price_per_million_input and price_per_million_output")
        return self

    @property
    def leaves_the_machine(self) -> bool:
        """Whether a question goes to another machine, where a proxy may be needed."""
        return any(urlsplit(url).hostname not in LOOPBACK for url in self.urls)


def block_variable(block: str) -> str:
    """Name of the variable in which a stage's process, and no other, gets the content of a Secret block."""
    return "ALIGNFLOW_BLOCK_KEY_" + re.sub(r"[^A-Z0-9]", "_", block.upper())


def asks_elsewhere(generator: GeneratorConfig | None) -> bool:
    """Whether an engine's model is in the memory of another process that the run does not start."""
    return generator is not None and generator.name == "server" and bool(generator.options.get("urls"))
