"""A run from the command line: shown on the terminal, recorded by Prefect, and ended cleanly on an interrupt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from alignflow import collector
from alignflow.cli.display import Display
from alignflow.cli.interrupt import Interruption, ends_when_told
from alignflow.cli.settings import become_client, names_a_server, on_a_server
from alignflow.cli.terminal import Console
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError
from alignflow.flows.pipeline import Narrator, Outcome
from alignflow.flows.requests import RunRequest
from alignflow.flows.run_names import run_title
from alignflow.server.layout import Home
from alignflow.tasks.launch.child import listening
from alignflow.tasks.store.artifact_store import ArtifactStore

if TYPE_CHECKING:
    from alignflow.server.temporary import TemporaryServer

Work = Callable[[Narrator], list[Outcome]]
FOUND = "every step is in the store, so no Prefect server is needed"
OWN = "starting a Prefect server for this run only, which takes some seconds; `alignflow up` starts one that stays"
INTERRUPTED_STOP_S = 0.8
LOOPBACK = ("", "127.0.0.1", "localhost", "::1")


def start_own_server(store: ArtifactStore, say: Callable[[str], None]) -> TemporaryServer:
    """Start a server for this process only, and import Prefect as its client; call `wait` on it before the first flow."""
    from alignflow.server.temporary import TemporaryServer

    server = TemporaryServer(Home(store.root), say)
    with become_client(server.client_environment), collector.paused():
        import prefect
        import prefect.main  # noqa: F401
    return server


def refuse_far_workers(recipe: Recipe) -> None:
    """Raise UserError if a recipe's Dask workers are on other machines, which cannot reach the server of a single run."""
    address = recipe.engine.dask_address or ""
    if recipe.engine.task_runner == "dask" and (urlsplit(address).hostname or "") not in LOOPBACK:
        raise UserError(
            "Dask workers on other machines need a Prefect server that they can reach",
            where=f"engine.dask_address={address}",
            do="start one with `alignflow up --host ADDRESS`, or set PREFECT_API_URL to the address of yours",
        )


@dataclass
class ShownRun:
    """One run of the command line.

    Attributes:
        flow: Name of the flow that Prefect records.
        name: Name of the run: the recipe's.
        store: The store of artifacts.
        console: The terminal.
        request: The command's request, for links on the server's pages.
    """

    flow: str
    name: str
    store: ArtifactStore
    console: Console
    request: RunRequest | None = None
    display: Display = field(init=False)
    _own: TemporaryServer | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.display = Display(self.console, 0)

    def do(self, work: Work, found: bool, server: str) -> list[Outcome]:
        """Run `work` and return its result.

        If no server is up, a run whose steps are all `found` needs no server and no Prefect; any other run starts its own.

        Args:
            work: The walk over the steps; takes the listener.
            found: Whether the store has every step and nothing is forced.
            server: The line about the running server; "" if none is up.

        Raises:
            AlignflowError: a step failed, or the server cannot be started.
        """
        with ends_when_told(self._rerun_line, self._tidy) as interruption:
            try:
                if not server and found:
                    self._say(FOUND)
                    with listening(self.display.progress):  # damaged artifacts are made again here
                        return work(Narrator.of(self.display))
                self._say(server or OWN)
                if not names_a_server():
                    return self._with_own_server(work, interruption)
                return self._in_flow(work, interruption, told=on_a_server())
            finally:
                self.display.stop()

    def _with_own_server(self, work: Work, interruption: Interruption) -> list[Outcome]:
        self._own = start_own_server(self.store, self._warn)
        self._own.wait()
        return self._in_flow(work, interruption, told=False)

    def _in_flow(self, work: Work, interruption: Interruption, told: bool) -> list[Outcome]:
        """Run the work inside a flow. With `told`, the server that the user named shows its progress, log and pages."""
        with collector.paused():
            from prefect import flow

        @flow(name=self.flow, flow_run_name=self._title, persist_result=False)
        def flow_from_the_command_line() -> list[Outcome]:
            interruption.listen()
            if not told:
                with listening(self.display.progress):
                    return work(Narrator.of(self.display))
            from alignflow.flows.run_pages import Story

            with Story(self.name, self.store, self.request) as story:

                def progress(step: str, state: dict[str, Any]) -> None:
                    self.display.progress(step, state)
                    story.progress(step, state)

                with listening(progress):
                    return work(Narrator.of(self.display, story))

        return flow_from_the_command_line()

    def _title(self) -> str:
        """The name of the flow run. It is a function, because Prefect would fill braces in a text with parameters."""
        return run_title(self.name, self.flow, self.request.settings if self.request else ())

    def _rerun_line(self) -> str:
        """A line that says where a rerun continues."""
        if call := self.display.running:
            saved = max(
                (int(path.name[5:]) for path in self.store.work(call.key).glob("step-*") if path.name[5:].isdigit()),
                default=None,
            )
            after = f", after training step {saved}" if saved is not None else ""
            return f"interrupted in {call.name}; run it again to continue with {call.name}{after}"
        if self.display.ended:
            return f"interrupted after {self.display.ended}; run it again to continue with the next step"
        return "interrupted before the first step; run it again to start there"

    def _tidy(self) -> None:
        self.display.stop()
        if self._own:
            self._own.stop(INTERRUPTED_STOP_S)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _warn(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True, markup=False)
