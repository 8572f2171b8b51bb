"""The stage body `align`: looks up the method and calls the trainer of its family."""

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
    run: Run,
    **others: Path | None,
) -> dict[str, float | None]:
    """Align the checkpoint `policy` by `config.method`, on the inputs among `others` that the method's family uses.

    Returns the trainer's metrics. Raises RecipeError for an unknown method or option before any model is loaded.
    """
    method = loaded_method(config.method)
    catalogue.parse_options(method, config.options, "align.options")
    given = {"policy": policy, **others}
    family = method.learns_from()
    names = [*(name.rstrip("?") for name in family.takes), *(feed.kind for feed in family.feeds)]
    return family.resolve()(config, **{name: given.get(name) for name in names}, run=run)
