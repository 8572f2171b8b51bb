"""When a schedule is due is a cron line in a time zone, or a time between runs."""

import pytest

from alignflow.data.errors import UserError
from alignflow.flows.schedules import rule


def test_rules():
    nightly = rule("0 2 * * *", None, "Europe/Berlin")
    assert nightly.cron == "0 2 * * *" and nightly.timezone == "Europe/Berlin"
    assert rule(None, 90, "UTC").interval.total_seconds() == 90


@pytest.mark.parametrize(
    "wrong",
    [(None, None, "UTC"), ("0 2 * * *", 60, "UTC"), ("0 2 * *", None, "UTC"), ("0 2 * * *", None, "Nowhere/At_all")],
)
def test_a_wrong_rule_is_refused(wrong):
    with pytest.raises(UserError):
        rule(*wrong)
