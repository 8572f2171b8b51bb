"""The server's error. It never reaches a stage's process, so it does not have to be in `data`."""

from alignflow.data.errors import AlignflowError


class ServerError(AlignflowError):
    """The Prefect server of `alignflow up` does not start, does not answer, or refuses."""
