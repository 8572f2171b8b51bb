"""What processes that work on rows have loaded before they begin: the server that they are forked from imports this module, and nobody else does."""

from __future__ import annotations

import gc

from alignflow.data.without_torch import leave_torch_out

leave_torch_out()

import transformers.tokenization_utils_tokenizers  # noqa: E402, F401

import alignflow.data.prepare  # noqa: E402
import alignflow.data.sources.reading  # noqa: E402, F401

gc.freeze()  # what is loaded stays, and its pages stay shared
