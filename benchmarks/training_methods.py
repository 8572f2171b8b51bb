"""The methods that training.py and loss_curves.py run on both sides, as data: both environments read this file, so it imports neither side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Compared:
    """One method on both sides.

    Attributes:
        data: The rows that both sides train on; `answers` are the two answers of each pair with a label, as rows of their own.
        stage: The stage of ours that trains it.
        ours: What its config has that is not the default.
        trainer: TRL's trainer, a name of `training_trl.TRAINERS`; empty: TRL has none, or it is not compared.
        theirs: What the trainer's config has beside the shared fields.
    """

    data: Literal["demonstrations", "pairs", "answers"]
    stage: Literal["sft", "reward", "align"]
    ours: Mapping[str, Any]
    trainer: str = ""
    theirs: Mapping[str, Any] = field(default_factory=dict)


def aligned(method: str, options: Mapping[str, float]) -> dict[str, Any]:
    """Fields of our `align`."""
    return {"method": method, "options": dict(options)}


METHODS: Mapping[str, Compared] = {
    "sft": Compared("demonstrations", "sft", {}, "sft"),
    "reward": Compared("pairs", "reward", {"l2_coefficient": 0.0, "check_rows": 1}, "reward"),
    "dpo": Compared("pairs", "align", aligned("dpo", {"beta": 0.1}), "dpo", {"beta": 0.1}),
    "ipo": Compared("pairs", "align", aligned("ipo", {"beta": 0.1}), "dpo", {"beta": 0.1, "loss_type": "ipo"}),
    "kto": Compared("answers", "align", aligned("kto", {"beta": 0.1}), "kto", {"beta": 0.1}),
    "orpo": Compared("pairs", "align", aligned("orpo", {"beta": 0.1}), "orpo", {"beta": 0.1}),
    "simpo": Compared(
        "pairs",
        "align",
        aligned("simpo", {"beta": 2.0, "gamma": 1.0}),
        "cpo",
        {"beta": 2.0, "loss_type": "simpo", "simpo_gamma": 1.0, "cpo_alpha": 0.0},
    ),
    "cpo": Compared(
        "pairs",
        "align",
        aligned("cpo", {"beta": 0.1, "cpo_alpha": 1.0}),
        "cpo",
        {"beta": 0.1, "loss_type": "sigmoid", "cpo_alpha": 1.0},
    ),
    "dpo_live": Compared("pairs", "align", aligned("dpo_live", {"beta": 0.1})),
    "tdpo2": Compared("pairs", "align", aligned("tdpo2", {"beta": 0.1, "alpha": 0.5})),
}
"""Name -> what both sides run. All hyper-parameters that matter are written out: where defaults differ, nothing rests on them."""

SHOWN = ("loss", "grad_norm", "kl")
"""Metrics that both sides log at each step; `kl` is KTO's z0."""

Runs = list[tuple[str, str, dict[str, Any]]]

OURS: Runs = [("alignflow", "ours", {})]


def padded(*rows: int, grouped: tuple[int, ...] = ()) -> Runs:
    """Runs of TRL with so many rows at a time, in random order and grouped by length."""
    plain: Runs = [(f"TRL, {count} at a time", "theirs", {"rows_at_a_time": count}) for count in rows]
    return plain + [
        (f"TRL, {count} at a time, grouped by length", "theirs", {"rows_at_a_time": count, "grouped": True})
        for count in grouped
    ]


CASES: Mapping[str, tuple[str, Runs]] = {
    "SFT": (
        "sft",
        [
            *OURS,
            *padded(1, 8, grouped=(4, 8, 16)),
            ("TRL, padding_free", "theirs", {"padding_free": True}),
            ("TRL, packing", "theirs", {"packing": True}),
        ],
    ),
    "reward": ("reward", [*OURS, *padded(1, 2, 8)]),
    "DPO, reference passes included": (
        "dpo",
        [
            ("alignflow", "ours", {"reference": True}),
            *padded(1, 8, grouped=(4, 8)),
            ("TRL, precomputed", "theirs", {"precompute": True, "reference": True}),
        ],
    ),
    "DPO, reference known": (
        "dpo",
        [
            *OURS,
            ("TRL, precomputed, 1 at a time", "theirs", {"precompute": True, "rows_at_a_time": 1}),
            ("TRL, precomputed", "theirs", {"precompute": True}),
        ],
    ),
    "IPO, reference passes included": ("ipo", [("alignflow", "ours", {"reference": True}), *padded(1, 8)]),
    "KTO, reference passes included": (
        "kto",
        [
            ("alignflow", "ours", {"reference": True}),
            *padded(2, 4, 8),
            ("TRL, precomputed, 2 at a time", "theirs", {"precompute": True, "reference": True, "rows_at_a_time": 2}),
        ],
    ),
    "KTO, reference known": (
        "kto",
        [*OURS, ("TRL, precomputed, 2 at a time", "theirs", {"precompute": True, "rows_at_a_time": 2})],
    ),
    "ORPO": ("orpo", [*OURS, *padded(1, 8, grouped=(4, 8))]),
    "SimPO": ("simpo", [*OURS, *padded(1, 8, grouped=(4, 8))]),
    "CPO": ("cpo", [*OURS, *padded(1, 8, grouped=(4, 8))]),
    "live reference": (
        "dpo_live",
        [("DPO with a live reference", "ours", {}), ("TDPO2", "ours", {"task": "tdpo2"})],
    ),
    "engine over a plain loop (SFT)": (
        "sft",
        [
            ("alignflow, DeepSpeed", "ours", {}),
            ("alignflow, torch engine", "ours", {"engine": "torch"}),
            ("plain torch loop", "ours", {"engine": "plain"}),
        ],
    ),
}
"""Case of training.py -> (method, what is run in turn: label, side, setting); ratios are to the first of each.

TRL's reward trainer drops the column of lengths that grouping needs. Its KTO takes rows in their order alone, since a row's answer to
another prompt stands beside it in a batch: no grouping, no rows one by one.
"""

CURVES: Mapping[str, Runs] = {
    "sft": [("TRL", "theirs", {})],
    "reward": [("TRL, its head started at zero", "theirs", {})],
    "dpo": [("TRL", "theirs", {})],
    "ipo": [("TRL", "theirs", {})],
    "kto": [
        ("TRL", "theirs", {}),
        ("TRL, with our answers to other prompts", "theirs", {"mismatched": True}),
    ],
    "orpo": [
        ("TRL", "theirs", {}),
        ("TRL, NLL of answers alone", "theirs", {"trainer": "orpo_answers"}),
    ],
    "simpo": [("TRL", "theirs", {})],
    "cpo": [
        ("TRL", "theirs", {}),
        ("TRL, 2 rows at a time", "theirs", {"rows_at_a_time": 2}),
    ],
}
"""Method -> what loss_curves.py compares with ours. TRL takes a whole step at a time, so that no mean of means comes in, where no setting says otherwise."""
