"""Writes an adapter and its base as one whole model."""

from __future__ import annotations

import shutil
from pathlib import Path

from alignflow.data.run import Runtime
from alignflow.models.adapters import has_head
from alignflow.models.checkpoints import CARD, save_checkpoint
from alignflow.models.policy import load_policy
from alignflow.models.reward_model import CHECK_ROWS, load_reward_model


def write_merged(path: Path, out: Path) -> None:
    """Merge the adapter at `path` into its base and write the model, in fp32, to the existing directory `out`.

    Raises:
        ModelError: the base is missing or changed, or the adapter does not fit it.
        DamagedArtifactError: bytes are not those of their manifest.
    """
    loaded = load_reward_model(path, Runtime()) if has_head(path) else load_policy(path, Runtime())
    save_checkpoint(loaded.model, loaded.tokenizer, out, {"Model": "An adapter merged into its base by alignflow."})
    for name in (CARD, CHECK_ROWS):  # merging does not change them
        if (path / name).is_file():
            shutil.copyfile(path / name, out / name)
