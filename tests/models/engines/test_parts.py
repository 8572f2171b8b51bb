"""States in parts: who gives the optimizer's count."""

import pytest

from alignflow.models.engines import group
from alignflow.models.engines.parts import STEPS, steps_part


@pytest.mark.parametrize("main", [True, False])
def test_one_process_gives_the_count_of_steps_for_all(monkeypatch, main):
    monkeypatch.setattr(group, "is_main", lambda: main)
    found = steps_part(7.0)
    assert list(found) == ([STEPS] if main else [])
    if main:
        assert (found[STEPS].values.tolist(), found[STEPS].start, found[STEPS].shape) == ([7.0], 0, (1,))
