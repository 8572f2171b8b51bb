"""`alignflow judge-data`: turns human preferences into demonstrations for fine-tuning a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from alignflow.cli.terminal import Console
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.options import LLMJudgeOptions
from alignflow.data.dropped import kept_line
from alignflow.data.judging.gold import read_gold


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("judge-data")(judge_data)


def judge_data(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="GOLD",
            help="Human preferences: a file, a saved data set, or a Hub id. You can pass it several times.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File of JSON lines to write, for data.demonstrations. It must not exist."),
    ],
    max_rows: Annotated[
        int | None, typer.Option(help="At most this many prompts of each file, chosen by hash.")
    ] = None,
    prompt: Annotated[
        str, typer.Option(metavar="PROMPT", help="The judge's question, as in judge.options.prompt.")
    ] = "pairwise",
) -> None:
    """Write pairs that people compared as questions to the judge `llm`, in both orders, with the right answers."""
    gold = read_gold([SourceConfig(path=path) for path in data], max_rows)
    from alignflow.models.judges.demonstrations import write_demonstrations

    written = write_demonstrations(gold.pairs, out, LLMJudgeOptions(prompt=prompt))
    console = Console()
    if dropped := {**gold.dropped, **written.dropped}:
        console.print(kept_line("pairs", written.pairs, dropped), highlight=False, soft_wrap=True)
    console.print(
        f"{written.rows} demonstrations from {written.pairs} pairs: {escape(str(out))}", highlight=False, soft_wrap=True
    )
