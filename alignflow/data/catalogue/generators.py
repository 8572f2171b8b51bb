"""The engines that sample and score, and the endpoints that answer as chats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs.generators import VLLMOptions
from alignflow.data.configs.server import ServerOptions


@dataclass(frozen=True)
class GeneratorRow(PartWithOptions):
    """One engine. Its address is a class, constructed as `Class(path, runtime, options)`, or with a `Run` in place of the runtime for a chat.

    Attributes:
        chat: Whether it takes messages and gives text (`models.generation.chat.ChatEngine`); else it takes and gives token ids
            (`models.generation.base.Generator`).
    """

    chat: bool = False


GENERATORS: Mapping[str, GeneratorRow] = {
    "transformers": GeneratorRow(
        "alignflow.models.generation.transformers_generator:TransformersGenerator",
        "The model itself, row by row.",
        version="2",
    ),
    "vllm": GeneratorRow(
        "alignflow.models.generation.vllm_generator:VLLMGenerator",
        "vLLM's offline engine in a process of its own, from the environment of `make vllm`; it shares prefixes and batches by itself.",
        options=VLLMOptions,
    ),
    "server": GeneratorRow(
        "alignflow.models.generation.server_engine:ServerEngine",
        "An OpenAI-compatible endpoint, or vLLM's own server that the run starts.",
        options=ServerOptions,
        version="2",
        chat=True,
    ),
}
