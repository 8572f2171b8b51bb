"""A low-rank adapter on disk: which base checkpoint it belongs to, and where that lies. No torch and no peft.

`adapter_model.safetensors` and `adapter_config.json` are peft's; `base.json` beside them names the base by key and digest.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from alignflow.data.artifacts import verify_inputs
from alignflow.data.errors import ModelError
from alignflow.data.model_references import reference_to, referred
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble
from alignflow.data.run import write_json

ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"


def is_adapter(path: Path | str) -> bool:
    """Whether a directory holds an adapter and not a whole model."""
    return (Path(path) / ADAPTER_CONFIG).is_file() and not (Path(path) / "config.json").is_file()


def write_base(out: Path, base: Path) -> None:
    """Name `base` as what the adapter in `out` was trained on: by key in a store, else by the way from `out` to it."""
    write_json(out / BASE, reference_to(base, out))


def find_base(path: Path) -> Path | str:
    """The directory (or Hub id) of the base of the adapter at `path`.

    In a store it is the artifact of its key, or any other with its digest. An adapter that was not made here has no
    base.json: then its base is what its own config names, and nothing says which bytes it was trained on.

    Raises:
        ModelError: the base is missing, or is not what the adapter was trained on.
    """
    path = Path(path).absolute()
    if not (path / BASE).is_file():
        return _named_by_config(path)
    what, do = (
        "base checkpoint",
        "run the recipe that made it again; `alignflow export` writes an adapter with its base as one model",
    )
    return referred(path, json.loads((path / BASE).read_text()), what, do)


def verify_model(path: Path | str) -> None:
    """Hash what lies at a path before it is used, weights excepted, and the same of an adapter's base and of an ensemble's members:
    tokenizer, configs, templates.

    Weights are hashed while they are loaded. A path outside a store passes, and a base that is missing is left to the loader.

    Raises:
        DamagedArtifactError: a byte is not the one that was published.
    """
    path = Path(path)
    verify_inputs(path)
    if is_adapter(path) or is_ensemble(path):
        with contextlib.suppress(ModelError):
            within = read_ensemble(path).members if is_ensemble(path) else (find_base(path),)
            for model in within:
                if isinstance(model, Path):
                    verify_model(model)


def _named_by_config(path: Path) -> Path | str:
    name = json.loads((path / ADAPTER_CONFIG).read_text()).get("base_model_name_or_path")
    if not name:
        raise ModelError(
            "the adapter names no base model",
            where=str(path),
            do="set base_model_name_or_path in its adapter_config.json",
        )
    places = [place for place in (path / name, Path(name)) if place.is_dir()]
    return places[0].absolute() if places else str(name)
