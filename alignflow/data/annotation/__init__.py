"""Pairs that people label: which, in which order, and what they said of them."""
