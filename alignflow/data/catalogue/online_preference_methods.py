"""The methods that sample answers, have them compared, and step on the comparisons at once."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.method import Method

ONLINE_PREFERENCE: Mapping[str, Method] = {}
