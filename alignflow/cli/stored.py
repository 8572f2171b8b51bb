"""Commands on the store: list, lineage, verify, gc."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from alignflow.cli.collected import stays_lines, waste_lines
from alignflow.cli.fitting import fits, short_time, tight, wide_console
from alignflow.cli.terminal import Console
from alignflow.data.artifacts import Manifest
from alignflow.data.errors import StoreError, UserError
from alignflow.data.number_text import number_text
from alignflow.data.report.figures import method_of
from alignflow.data.report.metrics import key_metrics
from alignflow.data.sharing import Sharing
from alignflow.server import processes
from alignflow.server.layout import Home
from alignflow.tasks.store.artifact_names import all_of_run, named_run
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.dashboard import renew_dashboard
from alignflow.tasks.store.gates import GateLedger, decided
from alignflow.tasks.store.gc import DAY_S, STAYS, UNUSED_FOR_DAYS, Collection, Wish
from alignflow.tasks.store.leftovers import size_of
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.run_cells import DASH, size_text
from alignflow.tasks.store.run_rows import run_names
from alignflow.tasks.store.verify import Findings, inspect, set_aside, unreadable_lines, would_set_aside

NAMES = "a step such as align, a run's name (NAME~0 if it looks like a Hub id), or last (each means the newest; last~1 is the run before), or the start of a key or digest"
"""How to name an artifact of the store, for the help of commands."""
Reference = Annotated[str, typer.Argument(metavar="REF", help=f"An artifact: {NAMES}, or a path.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_artifacts)
    app.command()(lineage)
    app.command()(verify)
    app.command()(gc)
    app.command("share-store")(share_store)


def list_artifacts(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Show only this stage's artifacts.")] = "",
) -> None:
    """Show the artifacts in the store, newest first: start of the key, last run that made or used it, main metric, and size."""
    store, console = ArtifactStore(for_reading=True), wide_console(Console())
    names = run_names(store)
    rows = [(manifest, names.get(manifest.key, DASH)) for manifest in store.manifests(stage)]
    sizes = {manifest.key: size_text(size_of(store.directory(manifest.key))) for manifest, _ in rows}
    wide = artifacts_table(rows, sizes, year=True)
    console.print(wide if fits(wide, console) else tight(artifacts_table(rows, sizes), kept=("key", "made", "size")))


def artifacts_table(rows: Sequence[tuple[Manifest, str]], sizes: Mapping[str, str], year: bool = False) -> Table:
    """One row per artifact with the name of its run; `sizes` by key."""
    table = Table("key", "made", "run", "method", "metric", "size", box=None, pad_edge=False)
    table.columns[-1].justify = "right"
    for manifest, run in rows:
        metric = next(iter(key_metrics(manifest.stage, manifest)), DASH)
        made, method = short_time(manifest.created, year), method_of(manifest) or DASH
        table.add_row(manifest.key[:24], made, *map(escape, (run, method, metric)), sizes[manifest.key])
    return table


def lineage(reference: Reference) -> None:
    """Show the tree of artifacts that led to one, and what gates and people decided about each."""
    store = ArtifactStore(for_reading=True)
    Console().print(_tree(store.resolve(reference), store, None, set()))


def _tree(manifest: Manifest, store: ArtifactStore, above: Tree | None, shown: set[str], name: str = "") -> Tree:
    label = f"{f'{name}: ' if name else ''}{manifest.key[:24]}  {manifest.kind} {manifest.digest[:12]}"
    repeated = manifest.key in shown
    text = escape(label + ("  (shown above)" if repeated else f"  {_headline(manifest)}"))
    node = Tree(text) if above is None else above.add(text)
    if not repeated:
        shown.add(manifest.key)
        for record in GateLedger(store).records(manifest.key):
            node.add(escape(f"gate {record.gate}: {decided(record)}"))
        for input_name, ref in manifest.inputs.items():
            try:
                _tree(store.manifest(ref.key), store, node, shown, input_name)
            except StoreError:
                node.add(escape(f"{input_name}: {ref.key[:24]}  (no longer in the store)"))
    return node


def _headline(manifest: Manifest) -> str:
    return ", ".join(
        f"{name} {number_text(value)}" for name, value in list(manifest.metrics.items())[:3] if value is not None
    )


def verify() -> None:
    """Hash everything in the store again. Set aside what is damaged and what was derived from it; the next run makes it again."""
    store, console = ArtifactStore(for_reading=True), Console()
    keys = [path.name for path in (store.root / "artifacts").iterdir()]
    with console.status("hashing") as status, using(store, *keys):  # so that gc removes none of them meanwhile
        found = inspect(store, lambda name: status.update(f"hashing {name[:24]}"))
    done = [
        *(set_aside(store, found) if store.writable else would_set_aside(found)),
        *unreadable_lines(found, store.root),
    ]
    console.print(_counted(found.whole, "artifact is intact", "artifacts are intact"), highlight=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    if found.clean:
        return
    counts = (
        (len(found.damaged), "artifact is damaged", "artifacts are damaged"),
        (len(found.derived), "artifact was made from damaged ones", "artifacts were made from damaged ones"),
        (len(found.caches) + len(found.verdicts), "small file is damaged", "small files are damaged"),
        (len(found.unreadable), "file or folder cannot be read", "files or folders cannot be read"),
    )
    what = ", ".join(_counted(*count) for count in counts if count[0])
    raise StoreError(
        what + ":\n  " + "\n  ".join(done),
        where=str(store.root),
        do="; ".join(_what_to_do(store, found)),
    )


def _what_to_do(store: ArtifactStore, found: Findings) -> Iterator[str]:
    if found.unreadable:
        yield "check the disk and the permissions of the unreadable files, then verify again"
    if found.damaged or found.verdicts or found.caches:
        yield (
            "run the recipe again"
            if store.writable
            else "nothing was set aside, because the store is read-only: run verify where the store can be written"
        )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def gc(
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="REF", help=f"Keep this artifact and what led to it, or all steps of this run: {NAMES}."),
    ] = None,
    keep_last: Annotated[
        int, typer.Option(min=0, metavar="N", help="Keep the last N reports and what led to them.")
    ] = 3,
    unused_for: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Remove journals, logs and token ids that no kept artifact needs and that were not used for this many days, and artifacts set aside that long ago.",
        ),
    ] = UNUSED_FOR_DAYS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove everything that no kept artifact needs, and unfinished work of dead runs. Asks first. Data that running stages use stays."""
    store, console = ArtifactStore(), Console()
    wish = Wish(tuple(key for text in keep or () for key in _kept(store, text)), keep_last, unused_for * DAY_S)
    collection = Collection(store, wish)
    plan = collection.plan()
    sizes = {entry.path: size_of(entry.path) for entry in (*plan.waste, *plan.recent)}
    for line in (*waste_lines(plan.waste, sizes), *stays_lines(plan, sizes, store.root, unused_for)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not plan.waste:
        console.print("nothing to remove")
        return
    if not yes and not typer.confirm(
        f"remove {len(plan.waste)} entries, {size_text(sum(sizes[entry.path] for entry in plan.waste))}?"
    ):
        raise typer.Exit(1)
    removed, failed = 0, []
    for entry, why in collection.remove(plan.waste):
        removed += 0 if why else sizes[entry.path]
        if why:
            console.print(
                f"stays: {entry.path.relative_to(store.root)}: {why}", markup=False, highlight=False, soft_wrap=True
            )
        failed += [why] if why not in ("", *STAYS) else []
    console.print(f"removed {size_text(removed)}", highlight=False)
    _renew_dashboard(store, console)
    if failed:
        raise StoreError(
            f"{len(failed)} entries could not be removed, such as {failed[0]}",
            where=str(store.root),
            do="check the permissions, and run it again",
        )


def _renew_dashboard(store: ArtifactStore, console: Console) -> None:
    """Write the page of the store anew, since runs whose artifacts are gone may still be on it; a page that cannot be written is told."""
    try:
        page = renew_dashboard(store)
    except UserError as error:
        console.print(f"note: {error}", markup=False, highlight=False, soft_wrap=True)
        return
    if page is not None:
        console.print(f"wrote {page} again", markup=False, highlight=False, soft_wrap=True)


def _kept(store: ArtifactStore, text: str) -> list[str]:
    """The keys to keep: of a run those of all its steps. Raises if one of them is damaged, because gc then cannot see
    its inputs."""
    run = named_run(store, text)
    return [manifest.key for manifest in all_of_run(store, run, text)] if run else [store.resolve(text).key]


def share_store(
    expiry_s: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="A machine that does not renew its locks for this long loses them."
        ),
    ] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let several machines use this store through one mounted folder from now on. Nothing may run in the store meanwhile. Asks first."""
    store = ArtifactStore()
    home, shared = Home(store.root), store.sharing is not None
    if not shared and any(process.alive for process in processes.known(home).values()):
        raise UserError(
            "the server or a worker of this store is running", where=str(store.root), do="`alignflow down` first"
        )
    question = (
        f"{store.root} stays shared from now on: its locks become files that each machine keeps renewing. Share it?"
    )
    if not shared and not yes and not typer.confirm(question):
        raise typer.Exit(1)
    if not shared:
        store.share(Sharing(beat_s=expiry_s / 6, expiry_s=expiry_s))
    if home.alone.is_dir() and not home.prefect.exists():  # this host keeps its history, schedules and automations
        home.alone.rename(home.prefect)
    print("it is shared already" if shared else f"{store.root} may be used by several machines")
