"""Clients of experiment trackers: what a run tells them, each in a file of its own."""
