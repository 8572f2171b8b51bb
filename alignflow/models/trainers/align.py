"""The stage body `align`: binds the method of the catalogue and hands over to the trainer of its family."""

from __future__ import annotations

from pathlib import Path

from alignflow.data import catalogue
from alignflow.data.configs.training import AlignConfig
from alignflow.data.own_methods import loaded_method
from alignflow.data.run import Run


def align(
    config: AlignConfig,
    *,
    policy: Path,
    reference: Path | None = None,
    preferences: Path | None = None,
    unpaired: Path | None = None,
    rankings: Path | None = None,
    prompts: Path | None = None,
    reward_model: Path | None = None,
    demonstrations: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Align the checkpoint `policy` by `config.method`, on the inputs that the method takes.

    Returns the metrics of the trainer. Raises RecipeError for an unknown method or option before any model is loaded.
    """
    method = loaded_method(config.method)
    catalogue.parse_options(method, config.options, "align.options")
    given = {
        "policy": policy,
        "reference": reference,
        "preferences": preferences,
        "unpaired": unpaired,
        "rankings": rankings,
        "prompts": prompts,
        "reward_model": reward_model,
        "demonstrations": demonstrations,
    }
    family = method.learns_from()
    names = [*(name.rstrip("?") for name in family.takes), *(feed.kind for feed in family.feeds)]
    return family.resolve()(config, **{name: given[name] for name in names}, run=run)
