"""Figures of what a labelling run made."""

from alignflow.models.judges.label_statistics import label_statistics


def test_of_nothing_there_is_no_rate_and_no_zero():
    found = label_statistics([])
    assert found["ended_wins"]["rate"] is None and found["ended_wins"]["trials"] == 0
    assert found["margin"]["mean"] is None and found["soft_label_entropy"] is None
