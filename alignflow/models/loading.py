"""Loads models of transformers and refuses a checkpoint whose tensors are not the model's; loads partitioned under ZeRO 3."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig
from transformers.initialization import no_init_weights

from alignflow.data.errors import ModelError
from alignflow.data.run import Runtime
from alignflow.models.engines.partitioned import fill, shape_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

WRAPPERS = {
    "module.": "torch's DistributedDataParallel or DeepSpeed",
    "_orig_mod.": "torch.compile",
    "base_model.model.": "peft",
    "_fsdp_wrapped_module.": "torch's FSDP",
}
"""Prefixes of tensors in a checkpoint of a model's wrapper instead of the model."""

COMPUTED = re.compile(r"(?:^|\.)(?:masked_bias|(?:attn|attention)\.bias|rotary_emb\.inv_freq|position_ids)$")
"""Buffers that transformers recomputes and that files of earlier versions hold (GPT-2, GPT-Neo, GPT-J, Llama)."""

HEADS = ("lm_head.", "embed_out.", "cls.", "score.")
"""Prefixes of the heads of causal models and of classifiers."""

MOST_NAMED = 3


def load_whole(kind: Any, path: Path | str, dtype: torch.dtype, **arguments: Any) -> Any:
    """`kind.from_pretrained(path)`, refused unless every tensor of the model comes from the checkpoint.

    A reward model's or value model's head may be missing if `num_labels` is among the arguments: then it starts
    fresh on a causal model's backbone, whose own head is not used.

    Args:
        kind: An Auto class of transformers.
        path: Directory or Hub id.
        dtype: dtype of the weights.

    Raises:
        ModelError: tensors are missing, unexpected, or of another shape; names them and the likely cause.
        OSError, ValueError: what `kind` raises.
    """
    try:
        model, report = kind.from_pretrained(
            str(path), use_safetensors=True, dtype=dtype, output_loading_info=True, **arguments
        )
    except RuntimeError as error:
        if "mismatch" not in str(error):  # out of memory, for example
            raise
        shapes = (
            _other_shapes(kind, Path(path)) if Path(path).is_dir() and not arguments.get("trust_remote_code") else ""
        )
        raise ModelError(
            f"the weights do not fit config.json: {shapes or 'tensors have other shapes'}",
            where=str(path),
            do="use the config that belongs to the weights",
        ) from None
    refuse_other_tensors(
        model, report["missing_keys"], report["unexpected_keys"], str(path), fresh_head="num_labels" in arguments
    )
    return model


def refuse_other_tensors(
    model: Any, missing: Collection[str], unexpected: Collection[str], where: str, fresh_head: bool
) -> None:
    """Raise ModelError if a checkpoint lacks tensors of the model or has others, except the heads that `load_whole` names."""
    backbone = f"{model.base_model_prefix}."
    unexpected = not_computed(model, unexpected)
    if fresh_head:  # a causal model's own head is not used
        unexpected = [name for name in unexpected if not name.startswith(HEADS)]
        missing = [name for name in missing if name.startswith(backbone)]
    if missing or unexpected:
        what = [
            f"{len(names)} {kind} ({_some(names)})"
            for kind, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise ModelError(
            f"the checkpoint does not have the model's tensors: {'; '.join(what)}",
            where=where,
            do=likely_cause(missing, unexpected, model.config),
        )
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tied = getattr(model.config.get_text_config(decoder=True), "tie_word_embeddings", False)
    if tied and ends[1] is not None and ends[0].weight is not ends[1].weight:
        raise ModelError(
            "config.json ties embeddings and head, and the checkpoint has two different matrices for them",
            where=where,
            do="set tie_word_embeddings to false in config.json, if the model was trained with a separate head",
        )


def likely_cause(missing: Collection[str], unexpected: Collection[str], config: Any) -> str:
    """Why a checkpoint has other tensors than its config asks for, judging by their names, and what to do."""
    for prefix, wrapper in WRAPPERS.items():
        bare = {name.replace(prefix, "", 1) for name in unexpected if name.startswith(prefix)}
        if bare:
            return f"the names start with {prefix!r}, which {wrapper} adds: save the model inside the wrapper, or strip the prefix"
    depth = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    layers = sorted(
        {int(found[1]) for name in missing if (found := re.search(r"(?:^|\.)(?:layers?|h|blocks)\.(\d+)\.", name))}
    )
    if layers and depth:
        named = ", ".join(map(str, layers[:MOST_NAMED])) + (", ..." if len(layers) > MOST_NAMED else "")
        return f"config.json has {depth} layers, and layers {named} are incomplete: use all weight files"
    if set(missing) == {"lm_head.weight"}:
        return "the head is missing: a reward model has none; if the model shares it with its embeddings, set tie_word_embeddings to true in config.json"
    if set(missing) == {"score.weight"}:
        return "the reward model's head is missing and would be random: use a trained reward model"
    if unexpected and all(name.startswith("lm_head.") for name in unexpected):
        return "the file also has a language model's head: remove lm_head.weight from it"
    if any(name.startswith("score.") for name in unexpected):
        return "this is a reward model: use a causal language model"
    return "use the weights that belong to config.json"


def refuse_not_finite(model: Any, where: str) -> None:
    """Raise ModelError, with the names of the tensors, if a weight is NaN or infinite."""
    broken = [name for name, values in model.named_parameters() if not torch.isfinite(values).all()]
    if broken:
        raise ModelError(
            f"{len(broken)} tensors have weights that are NaN or infinite ({_some(broken)})",
            where=where,
            do="use a checkpoint from before the training diverged; weights saved in fp16 can overflow, so save them in bf16 or fp32",
        )


def not_computed(model: Any, names: Collection[str]) -> list[str]:
    """The unexpected tensors of a checkpoint, without those that the model computes itself."""
    buffers = {name for name, _ in model.named_buffers()}
    return [name for name in names if name not in buffers and not COMPUTED.search(name)]


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:MOST_NAMED]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _other_shapes(kind: Any, path: Path) -> str:
    """The tensors of a local checkpoint whose shape does not match its config."""
    with torch.device("meta"):
        expected = {
            name: tuple(value.shape)
            for name, value in kind.from_config(AutoConfig.from_pretrained(str(path))).state_dict().items()
        }
    found = {}
    for name, file in tensor_files(path).items():
        with safe_open(path / file, "pt") as tensors:
            found[name] = tuple(tensors.get_slice(name).get_shape())
    return _some(
        [
            f"{name} is {found[name]}, not {expected[name]}"
            for name in found.keys() & expected.keys()
            if found[name] != expected[name]
        ]
    )


def load_model(kind: Any, path: Path, runtime: Runtime, in_parts: bool, **changes: Any) -> Any:
    """Load a checkpoint by an Auto class of transformers, in fp32; refused unless its tensors are the model's.

    Args:
        kind: The Auto class.
        path: Directory with config and safetensors.
        runtime: Under ZeRO 3 a model can be partitioned while it is read, so that no process ever holds all of it.
        in_parts: Whether to partition it: the caller must then pass it to an engine or to `share_out_frozen`.
        changes: Fields of the config to change; with `num_labels` the head may be missing (see `load_whole`).

    Raises:
        ModelError: tensors are missing or unexpected.
        OSError, ValueError: it cannot be loaded.
    """
    if in_parts and runtime.gathers:
        if (model := _load_shared_out(kind, path, runtime, changes)) is not None:
            return model
        print(
            "the checkpoint's tensors do not match the model's one by one: every process loads all of it before it is partitioned",
            flush=True,
        )
    return load_whole(kind, path, torch.float32, **changes)


def _load_shared_out(kind: Any, path: Path, runtime: Runtime, changes: Mapping[str, Any]) -> Any | None:
    """As `load_model`; None if names or shapes on disk differ from those in memory, which only transformers can convert."""
    from alignflow.models.engines.deepspeed_engine import partitioned_from_the_start

    config = AutoConfig.from_pretrained(str(path), **changes)
    files = tensor_files(path)
    with partitioned_from_the_start(runtime), no_init_weights():
        model = kind.from_config(config, dtype=torch.float32)
    model.tie_weights()
    parameters = dict(model.named_parameters())
    missing = sorted(parameters.keys() - files.keys())
    unexpected = not_computed(model, sorted(files.keys() - parameters.keys() - set(model.all_tied_weights_keys)))
    if not _tied_alike(model, path, files):
        return None
    backbone = f"{model.base_model_prefix}."
    if any(name.startswith(backbone) for name in [*missing, *unexpected]) or any(
        name in files for name, _ in model.named_buffers()
    ):
        return None
    refuse_other_tensors(model, missing, unexpected, str(path), fresh_head="num_labels" in changes)
    for file in sorted(set(files.values())):
        with safe_open(path / file, "pt") as tensors:
            for name in sorted(parameters.keys() & set(tensors.keys())):
                values = tensors.get_tensor(name)
                if values.shape != shape_of(parameters[name]):
                    return None
                fill(parameters[name], values.float())
    if (path / "generation_config.json").is_file() and model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(str(path))
    return model


def _tied_alike(model: Any, path: Path, files: Mapping[str, str]) -> bool:
    """Whether tensors that the model ties are the same in the checkpoint, if it has both."""
    for name, source in model.all_tied_weights_keys.items():
        if name in files and source in files:
            values = []
            for each in (name, source):
                with safe_open(path / files[each], "pt") as tensors:
                    values.append(tensors.get_tensor(each))
            if values[0].shape != values[1].shape or not torch.equal(*values):
                return False
    return True


def tensor_files(path: Path) -> dict[str, str]:
    """Name of each tensor of a checkpoint -> the file that holds it; raises OSError if there are no safetensors."""
    if (path / INDEX).is_file():
        return json.loads((path / INDEX).read_text())["weight_map"]
    with safe_open(path / WEIGHTS, "pt") as tensors:
        return dict.fromkeys(tensors.keys(), WEIGHTS)
