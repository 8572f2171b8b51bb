"""The stage body `merge`: the adapters of two trainings from one base become one model (PAFT, Pentyala et al. 2024, arXiv 2406.17923)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignflow.data.adapters import find_base, is_adapter
from alignflow.data.artifacts import identity, verify_files
from alignflow.data.configs.merging import MergeConfig
from alignflow.data.errors import ModelError
from alignflow.data.run import Run, Runtime, write_json
from alignflow.models.adapters import AdaptedMatrix, adapted_matrices, attach
from alignflow.models.checkpoints import licences_of, save_checkpoint
from alignflow.models.merging import (
    TOLERANCE,
    cosine,
    dare,
    sign_conflict_rate,
    sparsity,
    task_arithmetic,
    ties_merge,
)
from alignflow.models.policy import load_policy

NAMES = ("sft", "align")
"""The steps whose adapters are merged, by their names in metrics."""
MERGED = "merged"
FIGURES = "merge.json"
"""File of the payload: the metrics, and the same figures of each matrix."""

Figures = dict[str, float | None]


def merge_adapters(config: MergeConfig, *, base: Path, sft: Path, aligned: Path, run: Run) -> Figures:
    """Write `base` with the merged changes of the adapters `sft` and `aligned` as a whole checkpoint; on the CPU, in fp32.

    Whole deltas are merged, matrix by matrix. So ranks, scales and the adapted modules may differ: the delta of a matrix that an adapter did
    not change is 0.

    Metrics, over the entries of all adapted matrices: `sparsity/sft`, `sparsity/align`, `sparsity/merged`: the share with a magnitude of
    at most 1e-5. `sign_conflicts`: of the entries that both changed by more, the share with opposite signs. `norm/sft`, `norm/align`,
    `norm/merged`: Euclidean. `cosine`: of the two changes; None if one of them is 0.

    Raises:
        ModelError: an input is not an adapter, or was not trained on `base`.
    """
    paths = dict(zip(NAMES, (sft, aligned), strict=True))
    for name, path in paths.items():
        _check_adapter(name, path, base)
    policy = load_policy(base, Runtime(threads=run.runtime.threads))
    wrapped = attach(policy.model, paths)
    matrices = adapted_matrices(wrapped)
    rows = _merge_all(matrices, config, run)
    metrics = _over_all(rows, matrices)
    for name in NAMES:
        if not metrics[f"norm/{name}"]:
            run.warn(f"the adapter of {name} changes nothing: the merge contains only the other one")
    card = {
        "Merged adapters": f"Adapters of supervised fine-tuning and of alignment, merged by alignflow ({config.method}, arXiv 2406.17923).",
        "weights": ", ".join(f"{name} {weight:g}" for name, weight in zip(NAMES, _weights(config), strict=True)),
        "licences of what went in": licences_of(base, sft, aligned),
    }
    save_checkpoint(wrapped.unload(), policy.tokenizer, run.out, card)
    write_json(run.out / FIGURES, {"method": config.method, "metrics": metrics, "matrices": rows})
    return metrics


def merge_deltas(deltas: Sequence[torch.Tensor], config: MergeConfig, generator: torch.Generator) -> torch.Tensor:
    """The two changes of one matrix, merged by `config.method`; fp32 or wider.

    Args:
        deltas: The deltas of sft and of align, of one shape.
        config: Method, weights, density, divisor.
        generator: Draws the entries that DARE keeps.
    """
    if config.method.startswith("dare"):
        deltas = [dare(delta, config.density, generator=generator) for delta in deltas]
    if config.method in ("linear", "dare_linear"):
        return task_arithmetic(deltas, _weights(config))
    density = (
        config.density if config.method == "ties" else 1.0
    )  # DARE has already dropped its share: TIES then trims nothing
    return ties_merge(deltas, _weights(config), density, config.divisor)


def _weights(config: MergeConfig) -> tuple[float, float]:
    return config.sft_weight, config.align_weight


def _check_adapter(name: str, path: Path, base: Path) -> None:
    """Raise ModelError unless `path` is an adapter that was trained on `base`, DamagedArtifactError unless its bytes match its manifest."""
    if not is_adapter(path):
        raise ModelError(
            f"the model of {name} is not an adapter: all of its weights were trained",
            where="merge",
            do=f"a merge needs two adapters: set {name}.lora",
        )
    trained_on = find_base(path)
    if not isinstance(trained_on, Path) or identity(trained_on)[1] != identity(base)[1]:
        raise ModelError(
            f"the adapter of {name} was trained on {trained_on}, not on {base}",
            where="merge",
            do="merge adapters that were trained on the same base",
        )
    verify_files(path)


@torch.no_grad()
def _merge_all(matrices: Sequence[AdaptedMatrix], config: MergeConfig, run: Run) -> list[dict[str, Any]]:
    """Add the merged changes to the matrices; returns the figures of each."""
    generator, rows = torch.Generator().manual_seed(config.seed), []
    for number, matrix in enumerate(matrices):
        deltas = [matrix.delta(name) for name in NAMES]
        merged = merge_deltas(deltas, config, generator)
        named = dict(zip((*NAMES, MERGED), (*deltas, merged), strict=True))
        rows.append(
            {
                "matrix": matrix.name,
                "entries": merged.numel(),
                **{f"sparsity/{name}": sparsity([delta]) for name, delta in named.items()},
                **{f"norm/{name}": _norm(delta) for name, delta in named.items()},
                "sign_conflicts": sign_conflict_rate([(deltas[0], deltas[1])], TOLERANCE),
                "cosine": cosine([(deltas[0], deltas[1])]),
            }
        )
        matrix.weight.data += merged
        run.progress(number + 1, len(matrices), "matrices")
    return rows


@torch.no_grad()
def _over_all(rows: Sequence[dict[str, Any]], matrices: Sequence[AdaptedMatrix]) -> Figures:
    """The figures of all matrices as one vector; deltas are recomputed, since all of them at once need the memory of a second model."""
    names, entries = (*NAMES, MERGED), sum(row["entries"] for row in rows)
    first, second = NAMES
    return {
        **{
            f"sparsity/{name}": sum(row[f"sparsity/{name}"] * row["entries"] for row in rows) / entries
            for name in names
        },
        "sign_conflicts": sign_conflict_rate(
            ((matrix.delta(first), matrix.delta(second)) for matrix in matrices), TOLERANCE
        ),
        **{f"norm/{name}": math.sqrt(sum(row[f"norm/{name}"] ** 2 for row in rows)) for name in names},
        "cosine": cosine((matrix.delta(first), matrix.delta(second)) for matrix in matrices),
    }


def _norm(delta: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(delta, dtype=torch.float64))
