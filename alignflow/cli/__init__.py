"""The door for people: the command `alignflow`."""

from alignflow.safe_path import drop_empty_entries

drop_empty_entries()  # here, so that it comes before everything that the commands import
