"""`alignflow chat`: talk to one checkpoint, or to two side by side."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from alignflow.cli.conversation import Conversation, save
from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.adapters import is_adapter, verify_model
from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import AlignflowError, UserError, quoted
from alignflow.data.reward_ensembles import is_ensemble
from alignflow.tasks.launch.precision import model_width
from alignflow.tasks.launch.runtime import resolve_runtime
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import keys_on, using
from alignflow.tasks.store.store_root import default_root

PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
"""Prints texts of models, people and paths unchanged."""
ESCAPE = "/"
"""Prefix of a message that begins with a slash."""


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
    system: Annotated[str, typer.Option(metavar="TEXT", help="System message before the conversation.")] = "",
) -> None:
    """Talk to a model, or to two side by side; end with an empty line or Ctrl-D. /reset starts a new conversation, /system TEXT sets the
    system message, /save FILE saves it. If the context is full, the oldest turns are dropped, with a note."""
    if len(references) > 2:
        raise UserError(f"{len(references)} models given", where="chat", do="pass one, or two to compare")
    console = Console()
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(find_model(reference, "chat", ("checkpoint",))) for reference in references]
        with console.status("loading"):
            speakers = [Speaker(name, path, max_new_tokens, temperature, seed) for name, path in models]
        commands = Commands(speakers, system)
        console.print(f"end with an empty line; {', '.join(Commands.KNOWN)}", style="dim", highlight=False)
        while text := _asked(console):
            try:
                if said := commands.do(text):
                    console.print(said, style="dim", **PLAIN)
                elif len(speakers) == 1:
                    _one(console, speakers[0], _message(text))
                else:
                    _side_by_side(console, speakers, _message(text))
            except AlignflowError as error:  # a failed answer does not end the conversation
                console.print(str(error), style="yellow", **PLAIN)


def _message(text: str) -> str:
    """The person's message; two slashes at the beginning become one."""
    return text.removeprefix(ESCAPE) if text.startswith(ESCAPE * 2) else text


def _one(console: Console, speaker: Speaker, text: str) -> None:
    """Print the answer of the only model while it is generated."""
    shown = Shown(
        lambda piece: console.print(piece, end="", highlight=False, markup=False, emoji=False, soft_wrap=True)
    )
    answer = speaker.answer(text, shown.grow, lambda note: console.print(note, style="yellow", **PLAIN))
    shown.end(answer)
    console.print()


def _side_by_side(console: Console, speakers: Sequence[Speaker], text: str) -> None:
    """Show the answers of several models in growing columns; if the output is not a terminal, when all are done."""
    so_far = dict.fromkeys(range(len(speakers)), "")
    notes: list[str] = []

    def columns() -> Columns:
        panels = [Panel(Text(so_far[at]), title=Text(speaker.name)) for at, speaker in enumerate(speakers)]
        return Columns(panels, equal=True, expand=True)

    with Live(columns(), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        for at, speaker in enumerate(speakers):

            def grow(answer: str, at: int = at) -> None:
                so_far[at] = answer
                if console.is_terminal:
                    live.update(columns(), refresh=True)

            try:
                grow(speaker.answer(text, grow, notes.append))
            except AlignflowError as error:
                notes.append(f"{speaker.name}: {error}")
        live.update(columns(), refresh=console.is_terminal)
    for note in notes:
        console.print(note, style="yellow", **PLAIN)


class Shown:
    """Prints a growing text to a stream on which printed characters cannot be undone."""

    def __init__(self, write: Callable[[str], None]):
        self._write, self._printed = write, ""

    def grow(self, text: str) -> None:
        """Print the new part of the text; half a character waits for its other half."""
        whole = text.removesuffix("\N{REPLACEMENT CHARACTER}")
        if whole.startswith(self._printed) and len(whole) > len(self._printed):
            self._write(whole[len(self._printed) :])
            self._printed = whole

    def end(self, text: str) -> None:
        """Print the rest of the final text. If it differs from what was printed, print all of it on a new line."""
        if text.startswith(self._printed):
            self._write(text[len(self._printed) :])
        elif not self._printed.startswith(text):
            self._write(f"\n{text}")


class Commands:
    """The commands that a person can type.

    Args:
        speakers: The models.
        system: Their first system message; may be empty.
    """

    KNOWN = ("/reset", "/system TEXT", "/save FILE")

    def __init__(self, speakers: Sequence[Speaker], system: str = ""):
        self._speakers, self._saved = speakers, set[Path]()
        self._start_anew(system)

    def do(self, text: str) -> str:
        """Run a command and return what it did; "" if the line is a message. A message that starts with a slash has two.

        Raises:
            UserError: the command does not exist or lacks an argument.
        """
        if not text.startswith(ESCAPE) or text.startswith(ESCAPE * 2):
            return ""
        name, _, rest = text.partition(" ")
        if name == "/reset":
            self._start_anew(self._speakers[0].conversation.system)
            return "a new conversation"
        if name == "/system":
            self._start_anew(rest.strip())
            return (
                "a new conversation with this system message"
                if rest.strip()
                else "a new conversation without a system message"
            )
        if name == "/save" and rest.strip():
            path = Path(rest.strip()).expanduser()
            said = [(speaker.name, speaker.conversation) for speaker in self._speakers]
            save(path, said, again=path.absolute() in self._saved)
            self._saved.add(path.absolute())
            return f"saved: {path.absolute()}"
        raise UserError(
            "/save needs a file" if name == "/save" else f"there is no command {quoted(name)}",
            where="chat",
            do=f"the commands are {', '.join(self.KNOWN)}; start a message with // if it begins with a slash",
        )

    def _start_anew(self, system: str) -> None:
        for speaker in self._speakers:
            speaker.conversation = Conversation(system)


class Speaker:
    """A loaded model with its conversation so far."""

    def __init__(self, name: str, path: Path, max_new_tokens: int, temperature: float, seed: int):
        self.name, self.conversation = name, Conversation()
        verify_model(path)
        runtime = resolve_runtime(EngineConfig(), model_width(str(path)))
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from transformers.utils.logging import disable_progress_bar

        from alignflow.models.generation.base import Sampling
        from alignflow.models.generation.streaming import StreamingGenerator

        disable_progress_bar()
        self._generator: Any = StreamingGenerator(path, runtime)
        self._sampling, self._seed = Sampling(max_new_tokens, temperature), seed
        context: int | None = self._generator.context_length
        self._room = None if context is None else context - max_new_tokens
        if context is not None and context <= max_new_tokens:
            raise UserError(
                f"the context of {name} has {context} tokens, too few for answers of {max_new_tokens} tokens",
                where="--max-new-tokens",
                do=f"pass at most {context // 2}",
            )

    def answer(self, text: str, heard: Callable[[str], None], note: Callable[[str], None]) -> str:
        """The model's answer to `text`, given the turns that still fit into the context.

        Args:
            text: The person's message.
            heard: Called repeatedly with the answer so far.
            note: Called with a note about dropped turns.

        Raises:
            AlignflowError: the model cannot answer. The conversation is then unchanged, except for dropped turns.
        """
        from alignflow.data.rendering import decode_completion, encode_prompt

        tokenizer, ids = self._generator.tokenizer, list[int]()
        self.conversation.ask(text)
        try:
            if self._room is not None:
                dropped = self.conversation.make_room(lambda turns: len(encode_prompt(tokenizer, turns)), self._room)
                if dropped:
                    note(f"{self.name}: the context is full, the {dropped} oldest turns were dropped")

            def hear(token: int) -> None:
                ids.append(token)
                heard(decode_completion(tokenizer, ids))

            prompt = encode_prompt(tokenizer, self.conversation.messages)
            seed = self._seed + len(self.conversation.turns)
            made = self._generator.stream(prompt, self._sampling, seed, hear)
        except AlignflowError:
            self.conversation.take_back()
            raise
        answer: str = decode_completion(tokenizer, made.ids, ended=made.ended)
        self.conversation.answered(answer)
        return answer


@contextlib.contextmanager
def find_model(reference: str, command: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """A short name and the directory of a model: a directory of a model or adapter, or an artifact of one of `kinds`.

    gc keeps the artifact inside the block. Raises UserError; `command` stands in its message.
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
        yield (
            manifest.key[:16],
            store.payload(store.manifest(manifest.key).ref()),
        )  # raises if gc has removed it meanwhile


def pinned_path(path: Path) -> contextlib.AbstractContextManager[object]:
    """Pin the artifact that contains a path, if it is in this store; a model from elsewhere needs no store."""
    keys = keys_on(default_root(), str(path))
    return using(ArtifactStore(for_reading=True), *keys) if keys else contextlib.nullcontext()


def _asked(console: Console) -> str:
    try:
        return (console.input("[bold]you:[/bold] ") if sys.stdin.isatty() else input()).strip()
    except EOFError:
        return ""
