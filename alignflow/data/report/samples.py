"""What the report says about its samples: how they were chosen, and what each judge said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignflow.data.number_text import number_text

KINDS = {"clearest win": "Clearest wins", "clearest loss": "Clearest losses", "random": "Random prompts"}
"""Why a sample is shown, and the heading above all that are shown for this reason."""
UNKNOWN = "First prompts"
OF_AN_OLDER_VERSION = "An older alignflow made this evaluation. It kept the first prompts, without verdicts and scores; `--force evaluate` makes it again."
BETTER = {"aligned": "aligned is better", "sft": "SFT is better", "tie": "tie"}


def choice_text(how: Mapping[str, Any] | None, judges: Mapping[str, Mapping[str, Any]]) -> str:
    """How the samples of an evaluation were chosen, in a sentence or two.

    Args:
        how: `samples` of evaluation.json; None in that of an older alignflow.
        judges: `win_rate` of evaluation.json: judge -> its figures.
    """
    if how is None:
        return OF_AN_OLDER_VERSION
    wins, losses, others = (how["picked"].get(kind, 0) for kind in KINDS)
    shown = wins + losses + others
    start = f"{shown} of {how['prompts']:,} prompts"
    if not how["by"]:
        return (
            f"{start}, chosen at random by the seed {how['seed']}: no judge and no reward model compared the answers."
        )
    who = how["by"]
    if who in judges:
        who = f"{who}, which {'made' if judges[who]['made_the_labels'] else 'did not make'} the labels"
    ends = f"{_counted(wins, 'clearest win')} and {_counted(losses, 'clearest loss')} of the aligned model by {who}"
    rest = f"; {others} more at random by the seed {how['seed']}" if others else ""
    return f"{start}: {ends}{rest}. No sample was chosen by its text."


def _counted(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"no {what}" if not number else f"the {what}" if number == 1 else f"the {number} {plural}"


def by_kind(samples: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Heading -> the samples below it, wins first; those of an older evaluation have one heading."""
    found = [(title, [sample for sample in samples if sample.get("picked") == kind]) for kind, title in KINDS.items()]
    return [
        (title, group)
        for title, group in [*found, (UNKNOWN, [each for each in samples if "picked" not in each])]
        if group
    ]


def verdict_rows(sample: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each judge and for the reward model: who, verdict, probability, orders, score of each answer; none in an older evaluation."""
    rows = [
        {
            "who": found["judge"],
            "verdict": _verdict(found),
            "probability": number_text(found["probability"]),
            "orders": " / ".join(map(number_text, found["orders"]))
            if None not in found["orders"]
            else number_text(None),
            "aligned": number_text(found["scores"]["aligned"]),
            "sft": number_text(found["scores"]["sft"]),
        }
        for found in sample.get("verdicts", ())
    ]
    if rewards := sample.get("rewards"):
        first, second = rewards["aligned"], rewards["sft"]
        better = "" if None in (first, second) else "tie" if first == second else "aligned" if first > second else "sft"
        rows.append(
            {
                "who": "reward model",
                "verdict": BETTER.get(better, "no score"),
                "probability": number_text(None),
                "orders": number_text(None),
                "aligned": number_text(first),
                "sft": number_text(second),
            }
        )
    return rows


def _verdict(found: Mapping[str, Any]) -> str:
    """What a judge decided, in words, and why it decided nothing."""
    if not found["better"]:
        return f"no label: {found['reason'] or 'no reason is known'}"
    text = BETTER[found["better"]]
    if found["flips"]:
        return f"{text}: the preference changes with the order"
    return f"{text}: {found['reason']}" if found["reason"] else text
