"""Models that run together with the policy in every step: its reference, a teacher, a value network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignflow.data.catalogue import Method
from alignflow.data.errors import RecipeError
from alignflow.data.run import Run
from alignflow.models.policy import Policy, check_same_vocabulary, load_frozen
from alignflow.models.value_model import ValueModel, make_value_model


def teacher_of(method: Method, options: Any) -> Path | None:
    """Directory or Hub id of the teacher that the options of a method name; None for a method without one."""
    return Path(getattr(options, method.teacher)) if method.teacher else None


def live_model(method: Method, options: Any, model: Policy, path: Path, run: Run) -> Policy | None:
    """The frozen model that a method compares distributions with in every step, for the policy `model` from `path`; None if there is none.

    A live reference is the policy without its adapter, otherwise a copy of the checkpoint. A teacher is a separate checkpoint.

    Raises:
        ModelError: the teacher does not load, or has another meaning of a token id than the policy.
    """
    if (given := teacher_of(method, options)) is not None:
        teacher = load_frozen(given, run.runtime, in_parts=True)
        check_same_vocabulary(model, teacher, f"align.options.{method.teacher}")
        return teacher
    if not method.live_reference:
        return None
    return model if model.adapter else load_frozen(path, run.runtime, in_parts=True)


def value_network(method: Method, path: Path, run: Run) -> ValueModel | None:
    """A value model on the backbone of the policy at `path`, whose estimates are 0 at first; None for a method without one.

    Raises:
        RecipeError: the engine would partition its parameters (ZeRO 3).
    """
    if not method.value_network:
        return None
    if run.runtime.engine == "deepspeed" and run.runtime.zero_stage > 2:
        raise RecipeError(
            "a method with a value network does not support partitioned models",
            where="engine.zero_stage",
            do="set it to 1 or 2",
        )
    return make_value_model("policy", path, None, run.runtime)
