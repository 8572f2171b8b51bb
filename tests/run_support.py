"""Runs that are recorded without being run."""

from alignflow.tasks.store import dashboard
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.run_records import Asked, recording


def record_run(store, made, name="mine", error=None, **asked):
    """Record a run that made these artifacts (step -> manifest or reference), and ended by `error` where one is given."""
    try:
        with using(store) as pins, recording(store, Asked(name=name, **asked), pins) as record:
            for step, each in made.items():
                record.step(step, each.ref() if callable(getattr(each, "ref", None)) else each, True)
            if error is not None:
                raise error
    except Exception as raised:
        if raised is not error:
            raise


def reads_of_runs(monkeypatch):
    """The stores whose runs the dashboard reads from now on, one for each time."""
    read, rows = [], dashboard.run_rows

    def counted(store):
        read.append(store)
        return rows(store)

    monkeypatch.setattr(dashboard, "run_rows", counted)
    return read
