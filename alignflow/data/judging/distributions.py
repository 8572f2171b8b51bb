"""Mean, quantiles and histogram of many figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Mean and quantiles; None where there is nothing."""
    if not len(values):
        return {"count": 0, "mean": None, "quantiles": None, "histogram": None}
    low, high = min(values), max(values)
    # Values that are all but equal leave no room for bins.
    span = (low, high) if high - low > 1e-9 * max(1.0, abs(high)) else (low - 0.5, low + 0.5)
    counts, edges = numpy.histogram(values, bins=20, range=span)
    return {
        "count": len(values),
        "mean": float(numpy.mean(values)),
        "quantiles": {str(share): float(numpy.quantile(values, share)) for share in _SHARES},
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }
