"""alignflow: end-to-end RLHF and RLAIF as cached Prefect tasks that hand off checkpoints and data sets."""

__version__ = "0.1.0"
