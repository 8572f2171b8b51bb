"""Whether the ids that are trained on are those of the chat template: each usable row of some files, by some models' tokenizers.

`python benchmarks/template_ids.py --model DIRECTORY ... FILE_OR_FOLDER ... [--rows 3000]`: every file that can become demonstrations,
preferences or unpaired rows is read as a run reads it, and each conversation's ids are compared with
`tokenizer.apply_chat_template(..., tokenize=True)`, up to the end of the last assistant turn. Rows with a control token of the tokenizer in a text
are encoded as text on purpose: they are left out and counted, and so are rows whose turns the template refuses. Where
the template's own encoding has a token across the border before an answer, a model that samples sees the prompt alone: such rows are
counted apart. Prints a table; exit status 1 where ids differ. Needs the tokenizers alone.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import ModelError
from alignflow.data.inspection import inspect_source, with_template
from alignflow.data.rendering import encode_turns, load_tokenizer
from alignflow.data.sources.reading import READERS
from alignflow.data.token_ids import controls_of

KINDS = ("demonstrations", "preferences", "unpaired")
COUNTS = ("compared", "equal", "merged", "control", "refused")


def conversations(path: Path, most: int) -> Iterator[list[dict[str, Any]]]:
    """The conversations of a file's usable rows, of each kind that it can become, `most` rows of a kind at most."""
    first = inspect_source(SourceConfig(path=str(path)))
    for kind in (kind for kind in KINDS if kind in first.kinds):
        for row in inspect_source(SourceConfig(path=str(path)), kind).counted.rows[:most]:
            if kind == "demonstrations":
                yield row["messages"]
            else:
                yield from (
                    [*row["prompt"], *row[side]] for side in ("chosen", "rejected", "completion") if side in row
                )


def compare(tokenizer: Any, messages: list[dict[str, Any]], counts: Counter[str]) -> None:
    """Compare the ids of one conversation with the template's own, and count what came out."""
    special = controls_of(tokenizer).any
    if any(special.search(turn["content"]) for turn in messages):
        counts["control"] += 1
        return
    try:
        found = encode_turns(tokenizer, messages)
    except ModelError:
        counts["refused"] += 1
        return
    own = tokenizer.apply_chat_template([{**turn} for turn in messages], tokenize=True, return_dict=False)
    counts["compared"] += 1
    behind = [
        token for token in own[len(found.ids) :] if token != tokenizer.unk_token_id
    ]  # blanks that a small tokenizer does not know
    if found.ids == own[: len(found.ids)] and not tokenizer.decode(behind).strip():
        counts["equal"] += 1
    elif found.merged:
        counts["merged"] += 1
    elif counts["shown"] < 3:
        counts["shown"] += 1
        print(f"differs: {messages!r:.300}\n  {found.ids[-12:]}\n  {own[-12:]}", file=sys.stderr)


def main() -> int:
    """Print the table; 1 where ids differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", action="append", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=3000, help="rows of a file and kind that are compared at most")
    given = parser.parse_args()
    files = [file for place in given.data for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    files = [
        file
        for file in files
        if file.is_file() and "".join(file.suffixes[-1:]).replace(".gz", Path(file.stem).suffix) in READERS
    ]
    tokenizers = {path.name: load_tokenizer(path) for path in given.model}
    for tokenizer in tokenizers.values():
        with_template(tokenizer)
    totals = {name: Counter[str]() for name in tokenizers}
    print(f"{'file':<40} {'model':<18} " + " ".join(f"{name:>8}" for name in COUNTS))
    for file in files:
        rows = list(conversations(file, given.rows))
        for name, tokenizer in tokenizers.items():
            counts: Counter[str] = Counter()
            for messages in rows:
                compare(tokenizer, messages, counts)
            totals[name] += counts
            if rows:
                print(f"{file.name:<40} {name:<18} " + " ".join(f"{counts[count]:>8}" for count in COUNTS), flush=True)
    for name, counts in totals.items():
        print(f"{'all':<40} {name:<18} " + " ".join(f"{counts[count]:>8}" for count in COUNTS))
    return int(any(counts["equal"] + counts["merged"] < counts["compared"] for counts in totals.values()))


if __name__ == "__main__":
    sys.exit(main())
