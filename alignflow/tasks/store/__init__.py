"""The store: artifacts, locks, pins, garbage collection, and records of past runs."""
