"""The door for people: the command `alignflow`."""
