"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) through peft. Only this file and `merging` import it.

An adapter lives inside the model that it was added to, so that code that runs the model does not depend on it. On disk it
is stored without its base; loading merges the two in memory, and a base may itself be an adapter on another base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from alignflow.data.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, find_base, is_adapter, write_base
from alignflow.data.artifacts import verify_files
from alignflow.data.configs.training import LoRAConfig, TrainingConfig
from alignflow.data.errors import ModelError
from alignflow.data.run import write_json
from alignflow.models.checkpoints import save_checkpoint, save_tokenizer, write_card
from alignflow.models.engines import group
from alignflow.models.engines.partitioned import gathered, is_partitioned
from alignflow.models.loading import load_whole

HEADS = ("score",)  # of a reward model: trained in full together with the adapter, since the base has none


class Holder(Protocol):
    """A policy or a reward model."""

    model: Any
    tokenizer: Any
    adapter: Adapter | None


class Adapter:
    """A fresh adapter inside a model: only its weights are trained, and it can be switched off.

    Args:
        model: A model of transformers; it is changed in place, and all other weights are frozen.
        config: Rank and place.
        base: The checkpoint that `model` was loaded from.
        seed: Draws the first weights, and the dropout. The second factor starts at 0, so the model's output is unchanged.

    Raises:
        ModelError: peft is not installed, or no module has a name of `target_modules`.
    """

    def __init__(self, model: Any, config: LoRAConfig, base: Path, seed: int):
        self._base = base
        heads = [name for name in HEADS if hasattr(model, name)]
        torch.manual_seed(seed)
        modules = config.target_modules
        if not isinstance(modules, str):
            _refuse_unmatched(model, modules)
        settings = _peft().LoraConfig(
            r=config.r,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=modules if isinstance(modules, str) else list(modules),
            modules_to_save=heads or None,
            task_type="SEQ_CLS" if heads else "CAUSAL_LM",
        )
        try:
            self._wrapped = _peft().get_peft_model(model, settings)
        except ValueError as error:
            raise ModelError(
                f"no adapter fits: {str(error).splitlines()[0][:200]}",
                where="lora.target_modules",
                do="set target_modules to names of the model's modules",
            ) from None
        _refuse_tied(model)
        for module in model.modules():
            for name, dropout in getattr(module, "lora_dropout", {}).items():
                if isinstance(dropout, torch.nn.Dropout):
                    module.lora_dropout[name] = _TrainingDropout(dropout.p)
        torch.manual_seed(seed + group.rank())

    def off(self) -> AbstractContextManager[None]:
        """A context in which the adapter is off: the model is then the reference, without a second copy."""
        return self._wrapped.disable_adapter()

    def without(self, module: torch.nn.Module) -> torch.nn.Module:
        """A module of the model without the adapter, also outside of `off`."""
        return getattr(module, "base_layer", module)

    @property
    def parameters(self) -> list[Any]:
        """What trains."""
        return [parameter for parameter in self._wrapped.parameters() if parameter.requires_grad]

    def save(self, tokenizer: Any, out: Path, card: Mapping[str, str]) -> None:
        """Write weights, config, the reference to the base, tokenizer and card to the directory `out`."""
        weights = _peft().get_peft_model_state_dict(self._wrapped, save_embedding_layers=False)
        weights = {name: value.detach().cpu().contiguous() for name, value in sorted(weights.items())}
        save_file(weights, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        settings = self._wrapped.peft_config["default"].to_dict()
        plain = {
            name: sorted(value) if isinstance(value, set) else value
            for name, value in settings.items()
            if value is not None
        }
        for name in (
            "base_model_name_or_path",
            "revision",
            "peft_version",
        ):  # places and versions are no part of the result
            plain.pop(name, None)
        write_json(out / ADAPTER_CONFIG, {**plain, "inference_mode": True})
        write_base(out, self._base)
        save_tokenizer(tokenizer, out)
        write_card(card, out)


def _refuse_unmatched(model: Any, names: Sequence[str]) -> None:
    """Raise ModelError for a name that no module has: peft accepts the names if one of them matches."""
    modules = dict(model.named_modules())
    unmatched = [name for name in names if not any(module == name or module.endswith(f".{name}") for module in modules)]
    if unmatched:
        leaves = {
            module.rpartition(".")[2]
            for module, value in modules.items()
            if not list(value.children()) and hasattr(value, "weight")
        }
        raise ModelError(
            f"no adapter fits: no module is called {', '.join(unmatched)}",
            where="lora.target_modules",
            do=f"the model has {', '.join(sorted(leaves - set(HEADS)))}",
        )


def _refuse_tied(model: Any) -> None:
    """An adapter on one of two tied matrices would be merged into both, which changes the model."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if model.config.get_text_config(decoder=True).tie_word_embeddings and any(hasattr(end, "lora_A") for end in ends):
        raise ModelError(
            "embeddings and head share their weights, so neither can have an adapter",
            where="lora.target_modules",
            do="remove them from target_modules",
        )


class _TrainingDropout(torch.nn.Dropout):
    """Active only while gradients are recorded: our models stay in evaluation mode, and evaluations record no gradients."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(input, self.p, torch.is_grad_enabled())


def add_adapter(holder: Holder, config: TrainingConfig, base: Path, in_parts: bool = False) -> None:
    """Give a trainable model that was loaded from `base` the adapter that the config asks for, if any.

    `in_parts`: whether the model may be partitioned (ZeRO 3). Tested for policies that sample while they train and have no fully trained head.
    """
    if config.lora is not None:
        if not in_parts and any(is_partitioned(parameter) for parameter in holder.model.parameters()):
            raise ModelError(
                "this stage does not support LoRA with ZeRO stage 3",
                where="engine.zero_stage",
                do="set it to 1 or 2; an adapter is small",
            )
        holder.adapter = Adapter(holder.model, config.lora, base, config.seed)


def save_model(holder: Holder, out: Path, card: Mapping[str, str]) -> None:
    """Write a trained model: its adapter if it has one, otherwise the whole model."""
    if holder.adapter is not None:
        with gathered(holder.adapter.parameters):
            if group.is_main():
                holder.adapter.save(holder.tokenizer, out, card)
        group.barrier()
    else:
        save_checkpoint(holder.model, holder.tokenizer, out, card)


def from_pretrained(kind: Any, path: Path | str, dtype: torch.dtype, **arguments: Any) -> Any:
    """`kind.from_pretrained(path)`, where `path` may also be an adapter: then the result is its base with the adapter merged into it.

    Args:
        kind: A class of transformers such as AutoModelForCausalLM.
        path: Directory (or Hub id, for a whole model).
        dtype: Of the weights; merging is done in fp32 before.

    Raises:
        OSError, ValueError: what `kind` raises.
        ModelError: the base is missing or changed, its tensors are not the model's, or the adapter does not fit it.
        DamagedArtifactError: the base's bytes are not those of its manifest.
    """
    if not is_adapter(path):
        return load_whole(kind, path, dtype, **arguments)
    base = find_base(Path(path))
    if isinstance(base, Path):
        verify_files(base)
    model = merge(from_pretrained(kind, base, torch.float32, **arguments), Path(path))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # no buffers: positions are fp32 in a model of any dtype
    return model


def merge(model: Any, path: Path) -> Any:
    """`model` with the adapter at `path` added to its weights, and peft removed; raises ModelError if it does not fit."""
    return attach(model, {"default": path}).merge_and_unload()


def attach(model: Any, paths: Mapping[str, Path]) -> Any:
    """peft's model around `model` with the adapters at `paths` attached under their names; `unload` removes them.

    Raises ModelError if one does not fit.
    """
    wrapped: Any = None
    for name, path in paths.items():
        settings = _peft().PeftConfig.from_pretrained(str(path))
        if settings.peft_type != "LORA":
            raise ModelError(
                f"an adapter of the kind {settings.peft_type}",
                where=str(path),
                do="use a LoRA adapter, or a whole model",
            )
        settings.task_type = None  # a causal model's adapter may be loaded into the backbone of a reward model
        weights = load_file(path / ADAPTER_WEIGHTS)
        try:
            if wrapped is None:
                wrapped = _peft().PeftModel(model, settings, adapter_name=name)
            else:
                wrapped.add_adapter(name, settings)
            found = _peft().set_peft_model_state_dict(wrapped, weights, adapter_name=name)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"the adapter does not fit its base: {' '.join(str(error).split())[:300]}",
                where=str(path),
                do="use the base that it was trained on",
            ) from None
        expected = _peft().get_peft_model_state_dict(wrapped, adapter_name=name, save_embedding_layers=False)
        missing = sorted(expected.keys() - weights.keys())
        strange = (
            found.unexpected_keys if model.get_output_embeddings() is not None else ()
        )  # a backbone has no place for a head's
        if missing or strange:
            raise ModelError(
                f"the adapter does not fit its base: {', '.join([*missing, *strange][:3])}",
                where=str(path),
                do="use the base that it was trained on",
            )
    return wrapped


@dataclass(frozen=True)
class AdaptedMatrix:
    """A weight matrix of a model with adapters attached.

    Attributes:
        name: Name of its module.
        layer: peft's layer.
    """

    name: str
    layer: Any

    @property
    def weight(self) -> torch.Tensor:
        """The matrix without the adapters; adding to it changes the model."""
        return self.layer.get_base_layer().weight

    def delta(self, adapter: str) -> torch.Tensor:
        """An adapter's scaled delta, in the matrix's shape; 0 if the adapter does not change this matrix."""
        return self.layer.get_delta_weight(adapter) if adapter in self.layer.r else torch.zeros_like(self.weight)


def adapted_matrices(wrapped: Any) -> list[AdaptedMatrix]:
    """The matrices of what `attach` returned that any of its adapters changes, in the order of the model."""
    modules = wrapped.get_base_model().named_modules()
    return [AdaptedMatrix(name, module) for name, module in modules if hasattr(module, "get_delta_weight")]


def has_head(path: Path) -> bool:
    """Whether the adapter at `path` has a reward model's head."""
    with safe_open(path / ADAPTER_WEIGHTS, framework="pt") as file:
        return any(part in HEADS for name in file.keys() for part in name.split("."))  # noqa: SIM118 (no mapping)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("low-rank adapters need peft", where="lora", do="pip install 'alignflow[lora]'") from None
    return peft
