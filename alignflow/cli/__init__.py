"""The command `alignflow`."""

from alignflow.safe_path import drop_empty_entries

drop_empty_entries()  # before everything that the commands import
