"""Programmatic checks of an answer."""
