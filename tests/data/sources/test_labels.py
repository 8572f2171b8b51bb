"""Labels of answers: which words and numbers are good or bad."""

import pytest

from alignflow.data.sources.base import RowError
from alignflow.data.sources.labels import COLUMNS, label, label_or_none


@pytest.mark.parametrize(
    "value", [True, 1, 1.0, "1", "true", "Good", "thumbs_up", "👍", "+1", "LIKE", "👍🏽", "👍\ufe0f"]
)
def test_a_good_answer(value):
    assert label({"label": value}) is True


@pytest.mark.parametrize("value", [False, 0, -1, "-1", "no", "Thumbs-Down", "👎", "👎🏿", "rejected"])
def test_a_bad_answer(value):
    assert label({"label": value}) is False


@pytest.mark.parametrize("name", COLUMNS)
def test_each_name_of_the_column_is_read(name):
    assert label_or_none({name: "good"}) is True


def test_a_row_without_a_label_has_none_and_as_an_answer_with_a_label_it_is_refused():
    assert label_or_none({"prompt": "q"}) is None and label_or_none({"label": ""}) is None
    with pytest.raises(RowError, match="no_label"):
        label({"label": None})


@pytest.mark.parametrize("row", [{"label": 5}, {"label": "perhaps"}, {"label": True, "kto_tag": False}])
def test_an_unknown_label_and_two_that_disagree_are_refused(row):
    with pytest.raises(RowError, match="unknown_label"):
        label_or_none(row)
    with pytest.raises(RowError, match="no_label"):
        label(row)
