"""Rounds of a method: what cuts the data, and the config that each round has. Pure, as the graph is."""

from __future__ import annotations

from alignflow.data.configs.staged import StagedOptions
from alignflow.data.configs.training import AlignConfig, SplitConfig


def split_config(options: StagedOptions) -> SplitConfig:
    """The config of the step that cuts the data."""
    return SplitConfig(parts=options.stages, order=options.order)


def round_config(config: AlignConfig) -> AlignConfig:
    """The config of each round: without the options that only say how the data is cut, so that another part more or another order
    runs a round again only where its own rows, or the model that it starts from, are others."""
    own = {name: value for name, value in config.options.items() if name not in StagedOptions.model_fields}
    return config.model_copy(update={"options": own})
