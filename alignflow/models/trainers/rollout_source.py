"""The source of an update's answers: files of a killed run, answers sampled ahead, or the sampler now.

With `rollout_ahead: 1` the answers of update t + 1 are always drawn with the weights that update t begins with: an
engine in a separate process draws them while update t trains, the policy itself before that. They are on disk before the
state after update t, so that a kill loses none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from alignflow.data.configs.online import OnlineOptions
from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.generation.live import LiveSampler
from alignflow.models.rollouts import Prompts, Rollouts, prompt_order, sample_rollouts
from alignflow.models.trainers.rollout_buffer import RolloutBuffer, RolloutsAhead

STALENESS = "sampling/staleness"


class RolloutSource:
    """The answers of each update of a training.

    Args:
        sampler: Samples from the policy.
        prompts: The prompts to sample answers for.
        options: The method's options.
        per_update: Prompts of one update, of all processes.
        seed: Seed of the prompts' order and the answers.
        total: Updates of the run.
        run: Has the directory of kept answers.
    """

    def __init__(  # noqa: PLR0913 (rollouts depend on each)
        self,
        sampler: LiveSampler,
        prompts: Prompts,
        options: OnlineOptions,
        *,
        per_update: int,
        seed: int,
        total: int,
        run: Run,
    ):
        self.buffer = RolloutBuffer(run)
        self._sampler, self._prompts, self._options, self._run = sampler, prompts, options, run
        self._per_update, self._seed, self._total = per_update, seed, total
        self._kept = RolloutsAhead(run) if options.rollout_ahead else None
        self._drawing: tuple[int, int, _Drawing] | None = None

    def rollouts(self, update: int, place: int | None = None) -> Rollouts:
        """The answers of an update, on disk when this returns; those of the next one are started if they are drawn ahead.

        `place`: position in the stream of prompts; empty: the update's number, if each update uses one round.

        Raises:
            TrainingError: the results of the engine that samples differ from the trainer's.
        """
        place = update if place is None else place
        found = self.buffer.rollouts(update)
        if found is None:
            found = (self._kept and self._kept.rollouts(update, place)) or self._late(update, place)
            self.buffer.keep_rollouts(update, found)
        if self._kept is not None and update + 1 < self._total:
            self._begin(update + 1, place + 1)
        return found

    def more(self, place: int) -> Rollouts:
        """Further answers for an update, for the prompts of another position; not kept."""
        return self._sampled(place, 0)

    def settle(self) -> None:
        """Write the answers drawn ahead to disk; call it before the state after the update is saved."""
        if self._drawing is not None and self._kept is not None:
            update, place, drawing = self._drawing
            self._drawing = None
            self._kept.keep(update, place, drawing.result())

    def _late(self, update: int, place: int) -> Rollouts:
        if self._kept is not None and update:
            self._run.warn(
                f"answers of update {update + 1} that were drawn ahead are missing, or belong to other prompts or another number of "
                "processes: they are drawn with the present weights"
            )
        return self._sampled(place, 0)

    def _begin(self, update: int, place: int) -> None:
        assert self._kept is not None
        if self._kept.rollouts(update, place) is not None:  # drawn by a killed run
            return
        self._drawing = update, place, _Drawing(lambda: self._sampled(place, 1), self._sampler)

    def _sampled(self, place: int, staleness: int) -> Rollouts:
        order = prompt_order(len(self._prompts), place, self._per_update, self._seed)
        found = sample_rollouts(
            self._sampler,
            self._prompts,
            group.share(order),
            place,
            self._options,
            self._seed,
            keep_logps=staleness > 0,
        )
        if self._kept is None:
            return found
        return replace(found, figures={**found.figures, STALENESS: float(staleness)})


class _Drawing:
    """Answers drawn with the current weights: in a thread that waits for another process while the training runs, or at once."""

    def __init__(self, draw: Callable[[], Rollouts], sampler: LiveSampler):
        self._found: Rollouts | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._session = ExitStack()
        self._session.enter_context(sampler.session())
        if sampler.foreign:
            self._thread = threading.Thread(target=self._draw, args=(draw,), daemon=True)
            self._thread.start()
        else:
            with self._session:
                self._found = draw()

    def result(self) -> Rollouts:
        """Wait for the answers; raises the error of drawing them."""
        if self._thread is not None:
            self._thread.join()
        self._session.close()
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found

    def _draw(self, draw: Callable[[], Rollouts]) -> None:
        try:
            self._found = draw()
        except BaseException as error:  # noqa: BLE001 (raised again when the result is read)
            self._error = error
