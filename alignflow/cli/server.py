"""`alignflow up`, `down` and `status`."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.terminal import Console
from alignflow.cli.waiting import waiting, waiting_lines
from alignflow.server import lifecycle, processes
from alignflow.server.discovery import find_api, no_server, running_server
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.pools import GPU_POOL
from alignflow.server.remote_worker import become_worker
from alignflow.server.settings import without_secrets
from alignflow.server.status import PartStatus, Status, Waits
from alignflow.server.status import status as find_status
from alignflow.tasks.store.artifact_store import ArtifactStore

Option = typer.Option


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(worker)
    app.command()(status)


def up(  # noqa: PLR0913 (one argument per option of the command)
    host: Annotated[
        str | None, Option(envvar="ALIGNFLOW_HOST", help="Address to listen on. The default is 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, Option(envvar="ALIGNFLOW_PORT", help="Port to listen on. The default is 4200.")] = None,
    database: Annotated[
        str | None,
        Option(envvar="ALIGNFLOW_DATABASE", help="`sqlite`, or postgresql+asyncpg://user:password@host/name."),
    ] = None,
    insecure: Annotated[
        bool | None, Option("--insecure", help="Allow an address that other machines can reach, without TLS.")
    ] = None,
    tls_certificate: Annotated[Path | None, Option(metavar="FILE", help="Certificate chain in PEM, for https.")] = None,
    tls_key: Annotated[Path | None, Option(metavar="FILE", help="Its private key in PEM.")] = None,
    allow_host: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Another name that the server answers to, such as that of a proxy."),
    ] = None,
    gpu_pool: Annotated[
        bool | None,
        Option(
            "--gpu-pool/--no-gpu-pool", help="Add or remove a second pool and worker, which runs one GPU run at a time."
        ),
    ] = None,
    foreground: Annotated[bool, Option("--foreground", help="Stay in the terminal; Ctrl-C stops everything.")] = False,
) -> None:
    """Start Prefect's server and the workers of this store. Options are remembered for next time."""
    given = {
        "host": host,
        "port": port,
        "database": database,
        "insecure": insecure,
        "gpu_pool": gpu_pool,
        "tls_certificate": tls_certificate and tls_certificate.absolute(),
        "tls_key": tls_key and tls_key.absolute(),
        "allowed_hosts": tuple(allow_host) if allow_host else None,
    }
    home, console = Home(ArtifactStore().root), Console(stderr=False)
    if foreground:
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have ignored them for a background job
            signal.signal(number, signal.default_int_handler)
    with _told(console) as say:
        started = lifecycle.up(home, given, Path.cwd(), say)
    console.print("started " + ", ".join(started) if started else "it is up already", highlight=False)
    _show(find_status(home), home, console, login=console.is_terminal and not foreground)
    if foreground:
        _stay(home, console)


def _stay(home: Home, console: Console) -> None:
    """Wait for Ctrl-C, SIGTERM or the end of a process, then stop everything."""
    ended = None
    with contextlib.suppress(KeyboardInterrupt):
        console.print("Ctrl-C stops it", highlight=False)
        ended = lifecycle.watch(home)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # stopping takes time and must not be interrupted
    log = without_secrets(processes.end_of_log(home, ended), home.settings().database) if ended else ""
    _stop(home, console)
    if ended:
        raise ServerError(f"{ended} ended by itself", where=str(home.logs / f"{ended}.log"), do=log)


def down() -> None:
    """Stop the workers, their flow runs and the server of this store. Finished stages are kept."""
    _stop(Home(ArtifactStore().root), Console())


def worker(
    pool: Annotated[str, Option("--pool", help="The work pool whose runs this worker takes.")] = GPU_POOL,
    url: Annotated[
        str,
        Option(
            "--url",
            help="Address of the server as seen from this machine. Without it, the address that the server has stored.",
        ),
    ] = "",
) -> None:
    """Run the flow runs of a work pool on this machine, for a server on another machine that shares the store. Ctrl-C ends it."""
    become_worker(Home(ArtifactStore().root), pool, url)


def _stop(home: Home, console: Console) -> None:
    with _told(console) as say:
        stopped = lifecycle.down(home, say)
    console.print("stopped " + ", ".join(stopped) if stopped else "nothing is up", highlight=False)


def status(
    as_json: Annotated[bool, Option("--json", help="Print JSON, for programs.")] = False,
    login: Annotated[bool, Option("--login", help="Show the login, even if the output is not a terminal.")] = False,
    environment: Annotated[
        bool, Option("--environment", help="Print lines for a shell that make `prefect` talk to this server.")
    ] = False,
) -> None:
    """Show what is up, where, whether it is healthy, and which runs wait for a person. Exit status 1 if something is not healthy.

    With `eval "$(alignflow status --environment)"` the command `prefect` and other programs talk to this server.
    """
    store = ArtifactStore(for_reading=True)
    home = Home(store.root)
    if environment:
        for name, value in _running(home).items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        return
    found = find_status(home)
    found.waiting = _waiting(store, home, found)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console = Console()
        _show(found, home, console, login=login or console.is_terminal)
        for line in waiting_lines(found.waiting):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not found.healthy:
        raise typer.Exit(1)


def _waiting(store: ArtifactStore, home: Home, found: Status) -> list[Waits]:
    """The runs that wait, including those of a server on another machine. If the server stops answering, `found` becomes unhealthy."""
    hangs = found.server.pid is not None and not found.server.healthy
    try:
        return waiting(store, None if hangs else find_api(home, timeout_s=5))
    except ServerError as error:
        found.healthy = found.server.healthy = False
        found.server.problem = found.server.problem or error.what
        return waiting(store, None)


def _running(home: Home) -> dict[str, str]:
    if (found := running_server(home)) is None:
        raise no_server(home)
    return found


@contextlib.contextmanager
def _told(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows progress: a live line on a terminal, plain lines elsewhere."""
    begun = time.monotonic()
    if not console.is_terminal:
        yield lambda text: console.print(f"{time.monotonic() - begun:5.1f} s  {text}", highlight=False)
        return
    with console.status("") as live:
        yield lambda text: live.update(text)


def _show(found: Status, home: Home, console: Console, login: bool = False) -> None:
    """Print a table. The login is shown only with --login or on a terminal, where nothing records it."""
    table = Table("", "", show_header=False)
    table.columns[1].overflow = "fold"
    for name, value in _rows(found, home, login):
        table.add_row(name, value)
    console.print(table)


def _rows(found: Status, home: Home, login: bool) -> Iterator[tuple[str, str]]:
    yield "server", f"{escape(found.url)}  {_health(found.server)}"
    if found.elsewhere:
        yield "", f"not of this machine: {escape(found.elsewhere)}"
    if found.login_file and home.login_file.exists():
        yield "login", escape(home.login() if login else f"in {home.login_file}; `alignflow status --login` shows it")
    if found.database:
        yield "database", escape(found.database)
    for worker in found.workers:
        yield "worker", f"{escape(worker.name)}  {_health(worker)}"
    for pool in found.pools:
        yield (
            "pool",
            escape(pool.name)
            + (f", {pool.limit} run at a time" if pool.limit else "")
            + (", paused" if pool.paused else ""),
        )
    if found.runs is not None:
        yield "deployments", str(found.deployments)
        yield "flow runs", ", ".join(f"{number} {name}" for name, number in found.runs.items())
    yield "store", escape(found.store)
    yield "logs", "on the server's machine" if found.elsewhere else escape(found.logs)


def _health(part: PartStatus) -> str:
    if not part.healthy:
        return f"[red]{escape(part.problem)}[/red]"
    if part.pid is None:
        return "[green]healthy[/green]"
    return f"[green]healthy[/green], process {part.pid}, since {part.since[:16].replace('T', ' ')} UTC"
