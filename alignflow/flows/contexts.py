"""Checks before the run whether sampled answers fit the model's context. No torch, no downloads."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.data.configs.generation import EvaluateConfig, SampleConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError
from alignflow.data.estimate.shapes import built_shape, read_shape
from alignflow.flows.steps import Node


def context_length(recipe: Recipe) -> int | None:
    """Context length in tokens of the model that the recipe samples from; None if unknown before the model exists."""
    model = recipe.model
    if recipe.replace.sft:
        replaced = read_shape(recipe.replace.sft)
        return replaced.context_length if replaced else None
    shape = built_shape(model.build) if model.path is None else read_shape(model.path, model.revision)
    return shape.context_length if shape else None


def refuse_no_room(node: Node, recipe: Recipe, context: int | None) -> None:
    """Raise UserError if a step samples so many tokens that no prompt fits."""
    new = _new_tokens(node, recipe)
    if context is not None and new is not None and new >= context:
        raise UserError(
            f"max_new_tokens is {new}, but the model's context has {context} tokens for prompt and answer",
            where=f"{node.base}.max_new_tokens",
            do=f"set it below {context}, and leave room for the prompt",
        )


def narrow_lines(recipe: Recipe, steps: Sequence[Node]) -> list[str]:
    """One line for each section whose answers leave less room than the longest prompt needs."""
    context = context_length(recipe)
    lines = {}
    for node in steps:
        new, longest = _new_tokens(node, recipe), _longest_prompt(node, recipe)
        if context is None or new is None or new >= context or longest + new <= context:
            continue
        truncates = isinstance(node.config, SampleConfig) and node.config.truncate
        cut = "is cut from the left" if truncates else "ends the step with an error"
        lines[node.base] = (
            f"{node.base}.max_new_tokens {new} leaves {context - new} of the model's {context} tokens for the prompt, but prompts "
            f"may have {longest}: a longer one {cut}"
        )
    return list(lines.values())


def _new_tokens(node: Node, recipe: Recipe) -> int | None:
    """The longest answer of a step that samples from the recipe's own model; None for other steps.

    An endpoint has its own model and context.
    """
    config = node.config
    if not isinstance(config, SampleConfig | EvaluateConfig):
        return None
    generator = config.generator or recipe.engine.generator
    return None if generator.name == "server" else config.max_new_tokens


def _longest_prompt(node: Node, recipe: Recipe) -> int:
    longest = recipe.data.max_prompt_length
    return min(longest, node.config.max_prompt_length) if isinstance(node.config, SampleConfig) else longest
