"""A state is due after the first update, and then as soon as saving again takes at most a twentieth of the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.trainers.state_schedule import SHARE, StateSchedule


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def saved_after(update, save, updates, most=10**6, start=0):
    """The updates after which a state was saved, where an update takes `update` seconds and a save `save`; and the seconds of all."""
    clock, found = Clock(), []
    schedule = StateSchedule(most, start, clock)
    for done in range(start + 1, start + updates + 1):
        clock.now += update
        if schedule.due(done):
            with schedule.saving(done):
                clock.now += save
            found.append(done)
    return found, clock.now


def test_the_first_state_is_saved_at_once_and_the_next_one_when_it_has_paid():
    assert saved_after(update=1.0, save=0.09, updates=7)[0] == [1, 3, 5, 7]
    assert saved_after(update=1.0, save=0.01, updates=4)[0] == [1, 2, 3, 4]
    assert saved_after(update=10.0, save=30.0, updates=130)[0] == [1, 61, 121]


def test_a_state_is_due_after_most_updates_however_long_it_takes():
    assert saved_after(update=1.0, save=1000.0, updates=9, most=4)[0] == [1, 5, 9]


def test_a_training_that_goes_on_saves_after_its_first_update():
    assert saved_after(update=1.0, save=1.0, updates=3, start=40)[0] == [41]


@given(update=st.floats(0.01, 1000), save=st.floats(0.001, 10_000), updates=st.integers(2, 200))
def test_saving_takes_its_share_at_most_but_for_the_first_and_the_last_save(update, save, updates):
    found, whole = saved_after(update, save, updates)
    assert found[0] == 1
    assert (len(found) - 2) * save <= SHARE * whole * 1.001


def test_a_save_that_fails_leaves_the_schedule_as_it_was():
    clock = Clock()
    schedule = StateSchedule(10, 0, clock)
    with pytest.raises(OSError), schedule.saving(1):
        raise OSError
    assert schedule.due(2)
