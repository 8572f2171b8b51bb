"""Checks of an answer that a program can make."""
