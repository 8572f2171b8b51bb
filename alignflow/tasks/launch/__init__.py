"""Starts, watches and ends the processes of stages, here and on other machines, whole and in shards."""
