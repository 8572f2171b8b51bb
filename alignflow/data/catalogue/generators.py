"""The engines that sample and score, and the endpoints that answer as chats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs.generators import VLLMOptions


@dataclass(frozen=True)
class GeneratorRow(PartWithOptions):
    """One engine. Its address is a class, constructed as `Class(path, runtime, options)`.

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
}
