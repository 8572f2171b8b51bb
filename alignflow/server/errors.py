"""The error of the server; it never crosses into a stage's process, so it need not be among those of `data`."""

from alignflow.data.errors import AlignflowError


class ServerError(AlignflowError):
    """The Prefect server of `alignflow up` does not start, does not answer, or refuses."""
