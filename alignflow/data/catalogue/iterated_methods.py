"""The methods that run in rounds of sampling, judging and training."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.method import Method

ITERATED: Mapping[str, Method] = {}
