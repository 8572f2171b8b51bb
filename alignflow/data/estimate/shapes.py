"""The shape of a causal language model, from its config.json, and the number of its weights, exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignflow.data.configs.inputs import BuildConfig
from alignflow.data.errors import AlignflowError
from alignflow.data.estimate.place import BF16, FP32
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble


@dataclass(frozen=True)
class Family:
    """What an architecture has beside the gated transformer block that all of them share.

    Attributes:
        norms: RMSNorm vectors of the model's width in a layer.
        head_norms: Norms of queries and keys: none, one per head width, or over all heads.
        qkv_bias: Bias of the query, key and value projections: as config.json's `attention_bias` says (None), or always.
        out_bias: Bias of the output projection, likewise.
        mlp_bias: Whether the MLP heeds config.json's `mlp_bias`.
        head_dim: Width of a head where config.json does not say; None: the model's width by its heads.
        tied: Whether head and embedding are one matrix where config.json does not say.
    """

    norms: int = 2
    head_norms: Literal["none", "width", "all"] = "none"
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    mlp_bias: bool = False
    head_dim: int | None = None
    tied: bool = False


FAMILIES: Mapping[str, Family] = {
    "llama": Family(mlp_bias=True),
    "mistral": Family(qkv_bias=False, out_bias=False),
    "qwen2": Family(qkv_bias=True, out_bias=False),
    "qwen3": Family(head_norms="width", head_dim=128),
    "gemma": Family(head_dim=256, tied=True),
    "gemma2": Family(norms=4, head_dim=256, tied=True),
    "gemma3_text": Family(norms=4, head_norms="width", head_dim=256, tied=True),
    "phi3": Family(qkv_bias=False, out_bias=False),
    "granite": Family(mlp_bias=True),
    "olmo2": Family(head_norms="all"),
    "smollm3": Family(mlp_bias=True, tied=True),
}
"""`model_type` of config.json -> its family. Tests compare each with the model that transformers builds."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder; an unknown architecture has none.

    Attributes:
        family: A name of FAMILIES.
        hidden_size: Width h.
        num_hidden_layers: Depth l.
        num_attention_heads: Heads of queries; their width is `head_dim`.
        num_key_value_heads: Heads of keys and values.
        intermediate_size: Width i of the gated MLP.
        vocab_size: Rows of embedding and head.
        attention_bias: Whether config.json asks for biases in attention.
        mlp_bias: The same for the MLP.
        tied: Whether head and embedding are one matrix.
        context_length: Most tokens of prompt and completion together; None where config.json names none.
        stored_bytes: Bytes of a weight in the base checkpoint: 2 if config.json says bfloat16, else 4.
    """

    family: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    attention_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    context_length: int | None = None
    stored_bytes: int = FP32

    @property
    def query_width(self) -> int:
        """Columns of the queries of all heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Columns of the keys (or of the values) of all heads."""
        return self.num_key_value_heads * self.head_dim

    @property
    def backbone(self) -> int:
        """Weights without the head: embedding, layers, last norm."""
        return self.vocab_size * self.hidden_size + self.num_hidden_layers * self._layer() + self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights of the causal language model; a tied head counts once."""
        return self.backbone + (0 if self.tied else self.vocab_size * self.hidden_size)

    @property
    def scoring_parameters(self) -> int:
        """Weights of a reward or value model on this backbone: one row of width h in place of the head."""
        return self.backbone + self.hidden_size

    @property
    def layer_matrices(self) -> int:
        """Weights of all matrices in the layers: what is multiplied, and what autocast copies to bf16."""
        return self.num_hidden_layers * sum(rows * columns for rows, columns in self.matrices())

    def matrices(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers of one block, the unit of `target_modules: all-linear`."""
        width, queries, keys, inner = self.hidden_size, self.query_width, self.key_value_width, self.intermediate_size
        if self.family == "phi3":  # one matrix for queries, keys and values, and one for gate and up
            return [(width, queries + 2 * keys), (queries, width), (width, 2 * inner), (inner, width)]
        return [
            (width, queries),
            (width, keys),
            (width, keys),
            (queries, width),
            (width, inner),
            (width, inner),
            (inner, width),
        ]

    def lora_parameters(self, rank: int) -> int:
        """Weights of adapters of this rank on every linear layer but the head: r (in + out) each (Hu et al. 2021, section 4.1)."""
        return self.num_hidden_layers * sum(rank * (rows + columns) for rows, columns in self.matrices())

    def _layer(self) -> int:
        family = FAMILIES[self.family]
        weights = sum(rows * columns for rows, columns in self.matrices()) + family.norms * self.hidden_size
        if self.attention_bias if family.qkv_bias is None else family.qkv_bias:
            weights += self.query_width + 2 * self.key_value_width
        if self.attention_bias if family.out_bias is None else family.out_bias:
            weights += self.hidden_size
        if self.mlp_bias and family.mlp_bias:
            weights += 2 * self.intermediate_size + self.hidden_size
        norms = {"none": 0, "width": 2 * self.head_dim, "all": self.query_width + self.key_value_width}
        return weights + norms[family.head_norms]


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that the content of a config.json says; None for an architecture or a quantisation that is not known."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None or config.get("quantization_config"):
        return None
    try:
        heads = int(config["num_attention_heads"])
        return ModelShape(
            family=config["model_type"],
            hidden_size=int(config["hidden_size"]),
            num_hidden_layers=int(config["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or family.head_dim or int(config["hidden_size"]) // heads),
            intermediate_size=int(config["intermediate_size"]),
            vocab_size=int(config["vocab_size"]),
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=bool(config.get("mlp_bias", False)),
            tied=bool(config.get("tie_word_embeddings", family.tied)),
            context_length=int(config.get("max_position_embeddings") or 0) or None,
            stored_bytes=BF16 if "bfloat16" in (config.get("dtype"), config.get("torch_dtype")) else FP32,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def built_shape(build: BuildConfig) -> ModelShape:
    """The shape of a model that `model.build` asks for; its trained vocabulary is at most `vocab_size`."""
    return ModelShape(
        family="llama",
        hidden_size=build.hidden_size,
        num_hidden_layers=build.num_hidden_layers,
        num_attention_heads=build.num_attention_heads,
        num_key_value_heads=build.num_key_value_heads,
        head_dim=build.hidden_size // build.num_attention_heads,
        intermediate_size=build.intermediate_size,
        vocab_size=build.vocab_size,
        tied=True,
        context_length=build.max_position_embeddings,
    )


def read_shape(name: str | Path, revision: str | None = None) -> ModelShape | None:
    """The shape of the model in a directory, or of a Hub model whose config.json is in the local cache; None where unknown.

    Nothing is fetched.
    """
    path = Path(name) / "config.json"
    if not path.is_file():
        found = _cached_config(str(name), revision)
        if found is None:
            return None
        path = found
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return shape_of(content) if isinstance(content, dict) else None


def scorer_shapes(name: str | Path) -> tuple[ModelShape | None, ...]:
    """The shapes of the reward models at a path: of one, or of all members of an ensemble; one that is unknown where those are missing."""
    if not is_ensemble(name):
        return (read_shape(name),)
    try:
        return tuple(read_shape(member) for member in read_ensemble(Path(name)).members)
    except AlignflowError:
        return (None,)


def _cached_config(name: str, revision: str | None) -> Path | None:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found) if isinstance(found, str) else None
