"""`alignflow push`: sends a model or a data set with its card to a repository of the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from alignflow.cli.export import exported
from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.errors import AlignflowError, UserError

WHERE = "push"
LOGIN = "set HF_TOKEN to a token with write access, or log in with `hf auth login`"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(push)


def push(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help=f"A model or data set: {NAMES}, or the path of a model.")
    ],
    repository: Annotated[
        str,
        typer.Argument(
            metavar="REPO", help="Repository of the Hub: NAME, or OWNER/NAME. It is created if it does not exist."
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a newly created repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent where, but send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send a model or data set with its card to the Hub. The command first says what it sends where, and asks. The token comes from HF_TOKEN or `hf auth login`."""
    console = Console()
    with (
        exported(reference, WHERE, repository) as (name, kind, write),
        tempfile.TemporaryDirectory(prefix="alignflow-push-") as folder,
    ):
        _check_repository(repository)
        directory = Path(folder) / "content"
        with console.status(f"writing {name}"):
            write(directory)
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        total = sum(path.stat().st_size for path in files)
        for path in files:
            console.print(
                f"  {escape(str(path.relative_to(directory)))}  {path.stat().st_size:,} bytes",
                highlight=False,
                soft_wrap=True,
            )
        endpoint = _endpoint()
        what = f"{len(files)} files, {total:,} bytes, of {name} to the {kind} {repository} at {endpoint}"
        visible = "private if it is created now" if private else "public if it is created now"
        console.print(escape(f"{what} ({visible})"), highlight=False, soft_wrap=True)
        if dry_run:
            console.print("nothing was sent: --dry-run")
            return
        token = _token()
        if not yes and not typer.confirm("Send them?"):
            console.print("nothing was sent")
            return
        url = send(directory, repository, kind, token, private=private, message=f"{name} by alignflow")
    console.print(f"sent: {escape(url)}", highlight=False, soft_wrap=True)


def send(directory: Path, repository: str, kind: str, token: str, *, private: bool, message: str) -> str:
    """Create the repository if needed and send a folder as one commit; returns the commit's address.

    Raises:
        AlignflowError: the Hub refused or could not be reached; the message never contains the token.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    # huggingface_hub's client: a missing endpoint does not raise an OSError.
    network: tuple[Any, ...] = tuple(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    api: Any = HfApi(endpoint=_endpoint(), token=token)
    try:
        made = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=made.repo_id, folder_path=directory, repo_type=kind, commit_message=message
            ).commit_url
        )
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        said = " ".join(str(getattr(error, "server_message", None) or error).replace(token, "***").split())[:300]
        do = (
            LOGIN
            if status in (401, 403)
            else "check the name and your permissions, and try again: files that were sent are not sent again"
        )
        raise AlignflowError(
            f"the Hub refused the upload ({status}: {said})", where=f"{WHERE} {repository}", do=do
        ) from None
    except (OSError, ValueError, *network) as error:
        said = " ".join(str(error).replace(token, "***").split())[:300]
        raise AlignflowError(
            f"the upload failed ({said})", where=f"{WHERE} {repository}", do="check HF_ENDPOINT and the network"
        ) from None


def _check_repository(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(
            f"{name!r} is not a valid repository name", where=WHERE, do="write NAME, or OWNER/NAME"
        ) from None


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _token() -> str:
    from huggingface_hub import get_token

    found = get_token()
    if not found:
        raise UserError("no Hub token", where=WHERE, do=LOGIN)
    return str(found)
