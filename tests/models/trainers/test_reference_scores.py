"""Which data a family learns from."""

import pytest

from alignflow.data.catalogue import FAMILIES
from alignflow.data.errors import TrainingError
from alignflow.models.trainers.reference_scores import Fed, fed_by

OFFLINE = [name for name, row in FAMILIES.items() if row.feeds]


@pytest.mark.parametrize("family", OFFLINE)
def test_of_all_kinds_that_are_given_the_most_direct_one_is_taken(family, tmp_path):
    kinds = [feed.kind for feed in FAMILIES[family].feeds]
    given = {kind: tmp_path / kind for kind in reversed(kinds)}
    assert fed_by(family, given, "align") == Fed(family, kinds[0], tmp_path / kinds[0])
    assert fed_by(family, {**dict.fromkeys(kinds), kinds[-1]: tmp_path}, "align").kind == kinds[-1]


@pytest.mark.parametrize("family", OFFLINE)
def test_without_any_of_them_the_message_names_all(family):
    with pytest.raises(TrainingError) as raised:
        fed_by(family, {}, "align")
    assert all(feed.kind in str(raised.value) for feed in FAMILIES[family].feeds)
