"""Writes docs/measurements/cases.md: what the files of tests/cases become, and what `init` says of chat templates. Imports no torch of its own.

`python docs/make_cases.py` writes it; `--check` writes nothing and exits 1 where it is out of date.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import page_main
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.dropped import Parsed
from alignflow.data.inspection import Inspection, inspect_source
from alignflow.data.near_duplicates import near_duplicates
from alignflow.data.parsing import Kept
from alignflow.data.prepare import licences
from alignflow.data.records import normalise_text
from alignflow.data.rendering import encode_turns
from alignflow.data.row_texts import row_text, without_system
from alignflow.data.template_checks import check_template
from alignflow.data.template_turns import end_text

DIRECTORY = Path(__file__).parent
ROOT = DIRECTORY.parent
CASES = "tests/cases"
TWO_LICENCES = f"{CASES}/two_licences"
PAGE = "measurements/cases.md"
LONGEST = 140
"""Characters of a row or of a refusal that a cell shows."""
SIDES = ("chosen", "rejected", "completion")
FIGURES = ("label", "soft_label", "score_chosen", "score_rejected")


class Case(NamedTuple):
    """One file of tests/cases, or a folder of them.

    Attributes:
        name: What is special about it.
        file: Its name there.
        before: What came out before the inputs were read as they are now.
        kind: What it is read as; empty: the first that its rows can become.
        format: As `--format`.
        columns: As `--column`, standard name -> name in the file.
        is_prepared: Whether what `prepare` does next is shown as well, which `inspect` does not do.
    """

    name: str
    file: str
    before: str
    kind: str = ""
    format: str = "auto"
    columns: Mapping[str, str] = {}
    is_prepared: bool = False


KEPT_WHOLE = "kept as if nothing stood there"
CONVERSATIONS = (
    Case("`history` and `system` of Alpaca", "alpaca_history_system.jsonl", "both were not read"),
    Case("`system` beside pairs", "pairs_system_column.jsonl", "`system` was not read"),
    Case(
        "whole conversations in `chosen` and `rejected`",
        "pairs_whole_conversations.jsonl",
        "the system turn and the turns in the middle were lost",
    ),
    Case(
        "sides that end with a user turn",
        "pairs_end_with_user.jsonl",
        "the user turn became the answer: `chosen: Thanks.`",
        "preferences",
    ),
    Case(
        "pairs with `messages` beside them, read as pairs",
        "pairs_beside_messages.jsonl",
        "taken for `messages`, and refused",
        "preferences",
    ),
    Case(
        "the same file, nothing named",
        "pairs_beside_messages.jsonl",
        "demonstrations; the pairs were left out without a word",
    ),
    Case(
        "`completion` of several turns",
        "completion_of_several_turns.jsonl",
        "only the last turn was kept, as the answer to the first question",
    ),
    Case("`weight: 0` on a turn", "weight_zero.jsonl", "the wrong answer was trained on"),
    Case("`train: false` on a turn", "train_false.jsonl", "the wrong answer was trained on"),
    Case("`reasoning_content`", "reasoning_content.jsonl", KEPT_WHOLE),
    Case("`tool_calls` beside text", "tool_calls_beside_text.jsonl", KEPT_WHOLE),
    Case("a call without text, and its result", "tool_result.jsonl", "refused"),
    Case("calls and results as ShareGPT has them", "sharegpt_tools.jsonl", "refused"),
    Case(
        "an unknown tool, arguments that are no JSON, a result of no call, a call without a result",
        "broken_tools.jsonl",
        "refused, like all calls",
    ),
    Case("a pair with a call as an answer", "pair_of_calls.jsonl", "refused, like all rows with tools", "preferences"),
    Case("`refusal` on a turn", "refusal.jsonl", KEPT_WHOLE),
    Case("images", "images.jsonl", "trained on without the image"),
    Case("content as text parts", "content_parts.jsonl", "refused"),
    Case("content parts, one an image", "content_parts_with_image.jsonl", "refused"),
    Case("a transcript in `prompt`", "transcript_in_prompt.jsonl", "the whole transcript was one user turn"),
    Case(
        "`text` with `### Human:`",
        "guanaco_text.jsonl",
        "cut at the first sentence: `### Human: I like maps.` was the prompt",
        "demonstrations",
    ),
    Case(
        "OASST, one message a row",
        "oasst_flat.jsonl",
        "every message was cut at its first sentence: parts of questions became answers",
        "demonstrations",
    ),
    Case("OASST, one message a row, as pairs", "oasst_flat.jsonl", "refused", "preferences"),
    Case("OASST trees", "oasst_trees.jsonl", "refused", "preferences"),
    Case(
        "plain text, nothing named",
        "text_only.jsonl",
        "the first sentence became the prompt, the rest the answer",
        "demonstrations",
    ),
    Case("plain text, its format named", "text_only.jsonl", "as now", "demonstrations", format="text"),
)
VALUES = (
    Case(
        "`label: false` read as demonstrations",
        "label_false.jsonl",
        "the bad answers became demonstrations",
        "demonstrations",
    ),
    Case("labels as words", "unpaired_words.jsonl", "refused: `no_label`", "unpaired"),
    Case("labels as words in a CSV", "unpaired.csv", "refused: `no_label`", "unpaired"),
    Case("`kto_tag`", "kto_tag.jsonl", "refused: `no_label`", "unpaired"),
    Case("a score that is NaN", "nan_score.jsonl", "its answer was the best one", "demonstrations"),
    Case("scores as text", "scores_as_text.jsonl", "refused: `no_scores`", "preferences"),
    Case("a soft label of 1.7", "soft_label.jsonl", "used in the loss of the reward model", "preferences"),
    Case("a lone surrogate", "lone_surrogate.jsonl", "`UnicodeEncodeError` ended the stage"),
    Case(
        "names of one's own, one of them nested",
        "own_names.jsonl",
        "refused: no known format",
        columns={"prompt": "question", "completion": "reply.text"},
    ),
    Case("columns and keys that nothing reads", "unused_columns.jsonl", "not a word about them"),
    Case(
        "one long system prompt in all rows",
        "shared_system.jsonl",
        "24 of 25 rows dropped as near duplicates",
        is_prepared=True,
    ),
    Case("most rows dropped", "mostly_dropped.jsonl", "not a word on the terminal", "preferences", is_prepared=True),
)
FILES = (
    Case("a byte order mark", "bom.jsonl", "the first row was lost, as a broken line"),
    Case("UTF-16", "utf16.txt", "read as U+FFFD and NUL characters"),
    Case("bytes that are no UTF-8", "not_utf8.jsonl", "refused as a format that is not known"),
    Case(
        "a quote that is not closed in a CSV",
        "unclosed_quote.csv",
        "all lines after it became one answer, nothing was counted",
    ),
    Case(
        "CSV cells that look like JSON",
        "json_cells.csv",
        "`[1, 2]` was read as a list, and the row dropped",
        "demonstrations",
    ),
    Case("a .json that is one row", "one_row.json", "its turns were taken for rows, and refused"),
    Case("a .json with its rows under one of several lists", "list_under_a_key.json", "refused"),
    Case("a folder with `train` and `test` files", "split_folder", "both were read"),
    Case("two tools with other parameters in one Parquet file", "two_tools.parquet", "refused"),
    Case("a column that is null in the first file and text in the second", "null_then_text", "as now"),
    Case("a link beside its file", "linked_twice", "every row was read twice"),
    Case(
        "a link into a cache of the Hub",
        "hub_cache/snapshots/1/train.jsonl",
        "named in a recipe, it lost its suffix and was refused",
    ),
    Case("a file that is no data beside data", "skipped_files", "not a word about it"),
)
SECTIONS = {"Conversations": CONVERSATIONS, "Values and columns": VALUES, "Files": FILES}

INTRODUCTION = f"""\
<!-- Written by docs/make_cases.py: do not edit, run `make tables`. -->
# Inputs that came out wrong

Each line is one kind of data that was once read wrong, or refused for no good reason. The files are in `{CASES}`, a few made-up rows
each, and the command of a line shows what they become now; [data.md](../data.md) says how to read it. The column `now` is written by
the same functions: the format, how many rows are kept, how many are dropped for which reason, warnings, and the first row that is kept.
`weight 0` marks a turn that is not trained on. A long row is cut.

```sh
alignflow inspect {CASES}/weight_zero.jsonl
alignflow inspect {CASES}/own_names.jsonl --column prompt=question --column completion=reply.text --json
```\
"""
TEMPLATES = """\
## Chat templates

Templates written for the tests in the manner of each family (`tests/chat_template_support.py`), each with a byte-level tokenizer and with
one like SentencePiece's. `before` and `now` say for the two tokenizers in this order whether the ids of a conversation (a system turn
where the template takes one, two questions, two answers), up to the end of the last answer, are the ids of what the template itself writes.
The end of an assistant's turn and what `init` says are those of the byte-level tokenizer.

- `equal with an end`: the template ends a turn with the header of the next one, and writes nothing at the end of a conversation. An
  answer learns to end there all the same.
- `border`: the template's own encoding has a token across the border between the prompt and an answer. A model that answers sees the
  prompt alone, so both are encoded apart, and `prepare` counts such rows.\
"""
SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = (
    {"role": "user", "content": "What is this?"},
    {"role": "assistant", "content": "A fox."},
    {"role": "user", "content": "Is it quick?"},
    {"role": "assistant", "content": "It is."},
)
EQUAL_BEFORE = {
    "phi": "equal, others",
    "cohere": "equal, equal",
    "zephyr": "equal, others",
    "mistral": "refused, refused",
}
"""Those of which the ids were not others with both tokenizers."""


def command(case: Case) -> str:
    """What a person types."""
    words = ["alignflow", "inspect", f"{CASES}/{case.file}"]
    words += ["--as", case.kind] if case.kind else []
    words += ["--format", case.format] if case.format != "auto" else []
    words += [word for name, path in case.columns.items() for word in ("--column", f"{name}={path}")]
    return shlex.join(words)


def now(case: Case) -> str:
    """What comes out, in one line."""
    found = inspect_source(
        SourceConfig(path=str(ROOT / CASES / case.file), format=case.format, columns=dict(case.columns)), case.kind
    )
    counted = found.counted
    parts = (
        [f"{found.format or 'no format'}, {found.kind}: kept {len(counted.rows)} of {counted.read}"]
        if counted.read
        else []
    )
    parts += [f"dropped {count} `{reason}`" for reason, count in found.dropped.items()]
    parts += [code(line) for line in found.warnings if line != found.error_line and not line.startswith("dropped: ")]
    parts += [f"refused: {code(refusal(found))}"] if found.error is not None else []
    if case.is_prepared:
        parts.append(prepared(counted))
    return "; ".join(parts + [code(shown_row(row)) for row in counted.rows[:1]])


def prepared(counted: Kept) -> str:
    """What `prepare` with its defaults does with parsed rows: how many its search for duplicates leaves, and whether it stops."""
    config, parsed = PrepareConfig(), Parsed.of(counted)
    different = list({normalise_text(row_text(row)): row for row in reversed(counted.rows)}.values())[::-1]
    texts = [row_text(row) for row in different]
    near = near_duplicates(
        texts,
        config.near_duplicate_threshold,
        [without_system(row) or text for row, text in zip(different, texts, strict=True)],
    )
    counted.count("duplicate", "", len(counted.rows) - len(different))
    counted.count("near_duplicate", "", sum(near))
    counted.rows = [row for row, is_near in zip(different, near, strict=True) if not is_near]
    share = parsed.lost_share(counted)
    stops = (
        f", and stops: {share:.0%} are lost, more than `max_dropped_fraction`"
        if share > config.max_dropped_fraction
        else ""
    )
    return f"`prepare` has {len(counted.rows)} after its search for duplicates{stops}"


def refusal(found: Inspection) -> str:
    """The first words of an error, without its list of reasons, which are in the counts."""
    text = found.error.what if found.error is not None else ""
    return text.partition(" (")[0] if found.dropped else text


def shown_row(row: Mapping[str, Any]) -> str:
    """A prepared row in one line: its turns, then its answers, then its label and scores."""
    turns = [turn(item["role"], item) for name in ("messages", "prompt") for item in row.get(name, ())]
    turns += [turn(side, item) for side in SIDES for item in row.get(side) or ()]
    turns += [f"text: {row['text']}"] if "text" in row else []
    figures = [f"{name} {str(row[name]).lower()}" for name in FIGURES if row.get(name) is not None]
    return " / ".join(turns) + (f" ({', '.join(figures)})" if figures else "")


def licence_line() -> str:
    """What `prepare` records of two sources whose files have one name."""
    stated = {"a": "MIT", "b": "CC0"}
    sources = tuple(
        SourceConfig(path=str(ROOT / TWO_LICENCES / place / "train.jsonl"), licence=licence)
        for place, licence in stated.items()
    )
    recorded = licences(PrepareConfig(demonstrations=sources))
    return (
        f"Two sources of one file name, `a/train.jsonl` under {stated['a']} and `b/train.jsonl` under {stated['b']} (`{TWO_LICENCES}`): before, the "
        f"last licence stood for both. Now `prepare` records {', '.join(f'{value} for `{name}`' for name, value in recorded.items())}."
    )


def turn(label: str, message: Mapping[str, Any]) -> str:
    """A turn as `role: text`, with what it has beside its text."""
    beside = [f"{name} {value}" for name, value in message.items() if name not in ("role", "content")]
    return f"{label}: {message['content']}" + (f" ({', '.join(beside)})" if beside else "")


def code(text: str) -> str:
    """A text as code in a cell: in one line, cut, without its own backticks."""
    text = text.replace("\n", "⏎").replace("`", "'")
    return f"`{text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'}`"


def templates() -> str:
    """The table of the chat templates."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from chat_template_support import FAMILIES, TOKENIZERS
    finally:
        sys.path.pop(0)

    rows = []
    for name, family in FAMILIES.items():
        pair = [TOKENIZERS[name, kind] for kind in ("byte-level", "sentencepiece")]
        messages = [*([SYSTEM] if family.system else []), *TURNS]
        said = [line.replace("<", "&lt;").replace("\n", "⏎") for line in check_template(pair[0], name)]
        equal = ", ".join(compared(tokenizer, messages) for tokenizer in pair)
        rows.append(
            [
                name,
                EQUAL_BEFORE.get(name, "others, others"),
                equal,
                code(end_text(pair[0])),
                "<br>".join(said) or "nothing",
            ]
        )
    return table(["in the manner of", "before", "now", "end of a turn", "`init` says"], rows)


def compared(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """Whether a conversation's ids are those of the text that the template writes, up to the end of the last answer."""
    found = encode_turns(tokenizer, messages)
    whole = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    if found.ids == whole[: len(found.ids)]:
        return "equal"
    if whole == found.ids[: len(whole)]:
        return "equal with an end"
    return "border" if found.merged else "others"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for title, cases in SECTIONS.items():
        rows = [[case.name, f"`{command(case)}`", case.before, now(case)] for case in cases]
        parts += [f"## {title}", table(["case", "command", "before", "now"], rows)]
    return "\n\n".join([*parts, licence_line(), TEMPLATES, templates()]) + "\n"


def main(arguments: Sequence[str], directory: Path = DIRECTORY) -> int:
    """Write the page, or with --check say what is out of date; returns the exit status."""
    return page_main.main({PAGE: page}, __doc__, arguments, directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
