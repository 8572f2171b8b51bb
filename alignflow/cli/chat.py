"""`alignflow chat`: talk to one checkpoint, or to two side by side."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.text import Text

from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.adapters import is_adapter, verify_model
from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import UserError
from alignflow.data.reward_ensembles import is_ensemble
from alignflow.tasks.launch.precision import model_width
from alignflow.tasks.launch.runtime import resolve_runtime
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import keys_on, using
from alignflow.tasks.store.store_root import default_root


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    references: Annotated[
        list[str], typer.Argument(metavar="REF [REF]", help=f"One or two models: {NAMES}, or paths.")
    ],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0, max=5, help="0: greedy.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Talk to a model, or to two side by side; end with an empty line or Ctrl-D."""
    if len(references) > 2:
        raise UserError(f"{len(references)} models given", where="chat", do="give one, or two to compare")
    console = Console()
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(find_model(reference, "chat", ("checkpoint",))) for reference in references]
        with console.status("loading"):
            speakers = [Speaker(name, path, max_new_tokens, temperature, seed) for name, path in models]
        console.print("end with an empty line", style="dim")
        while text := _asked(console):
            panels = [Panel(Text(speaker.answer(text)), title=speaker.name) for speaker in speakers]
            console.print(Columns(panels, equal=True, expand=True))


class Speaker:
    """One loaded model with its conversation so far."""

    def __init__(self, name: str, path: Path, max_new_tokens: int, temperature: float, seed: int):
        self.name = name
        verify_model(path)
        runtime = resolve_runtime(EngineConfig(), model_width(str(path)))
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from alignflow.models.generation.base import Sampling, make_generator

        self._generator: Any = make_generator(path, runtime)
        self._sampling, self._seed = Sampling(max_new_tokens, temperature), seed
        self._messages: list[dict[str, str]] = []

    def answer(self, text: str) -> str:
        """The model's answer to `text`, given everything said before."""
        from alignflow.data.rendering import decode_completion, encode_prompt

        self._messages.append({"role": "user", "content": text})
        prompt = encode_prompt(self._generator.tokenizer, self._messages)
        made = self._generator.generate([prompt], self._sampling, [self._seed + len(self._messages)])[0]
        answer = decode_completion(self._generator.tokenizer, made.ids, ended=made.ended)
        self._messages.append({"role": "assistant", "content": answer})
        return answer


@contextlib.contextmanager
def find_model(reference: str, command: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """A short name and the directory of a model: a model's or adapter's directory, or an artifact of one of `kinds`.

    Inside the block gc leaves the artifact alone. Raises UserError, as what `command` says.
    """
    if (Path(reference) / "config.json").is_file() or is_adapter(reference) or is_ensemble(reference):
        with pinned_path(Path(reference).absolute()):
            yield Path(reference).name, Path(reference)
        return
    store = ArtifactStore(for_reading=True)
    manifest = store.resolve(reference, kinds)
    if manifest.kind not in kinds:
        raise UserError(
            f"{manifest.key[:24]} is a {manifest.kind}, not a {' or '.join(kinds)}",
            where=command,
            do="`alignflow list align` shows aligned models",
        )
    with using(store, manifest.key):
        yield manifest.key[:16], store.payload(store.manifest(manifest.key).ref())  # raises where gc was faster


def pinned_path(path: Path) -> contextlib.AbstractContextManager[object]:
    """Pin the artifact that a path lies in, where that is one of this store; a model from elsewhere needs no store."""
    keys = keys_on(default_root(), str(path))
    return using(ArtifactStore(for_reading=True), *keys) if keys else contextlib.nullcontext()


def _asked(console: Console) -> str:
    try:
        return (console.input("[bold]you:[/bold] ") if sys.stdin.isatty() else input()).strip()
    except EOFError:
        return ""
