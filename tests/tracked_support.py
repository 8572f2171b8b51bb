"""What trackers are sent in tests: a run with one step."""

from alignflow.tasks.trackers.base import TrackedRun, TrackedStep

RUN = TrackedRun("mine", "run-1", {"align.options.beta": "0.1", **{f"place.{n}": "x" for n in range(150)}})
POINTS = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.5, "kl": 0.25}]
STEP = TrackedStep("align", POINTS, {"win_rate/rubric:a": 0.75}, "align-1", "d" * 64, cached=True)
