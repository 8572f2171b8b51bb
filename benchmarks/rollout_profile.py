"""Where the time of an online update goes: sampling, scores, log-probabilities of policy and reference, values, steps.

    python benchmarks/rollout_profile.py MODEL PROMPTS [--method ppo] [--answers 64] [--response 64] [--updates 3] [--epochs 4]

PROMPTS is a Parquet table with a column `prompt` of texts. PPO is rewarded by a reward model on the same backbone with a fresh head, so its scores
take their usual time and mean nothing; the other methods run as in online_training.py. CPU seconds of this process, one thread, plain torch. The
first update is left out, because it loads the models and tries them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import torch
from online_methods import METHODS

from alignflow.data.configs.inputs import InitConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.models.adapters import save_model
from alignflow.models.initialise import initialise
from alignflow.models.reward_model import build_reward_model
from alignflow.models.rewards.sources import WeightedRewards
from alignflow.models.trainers import online, online_preference, rollout_source
from alignflow.models.trainers.align import align
from alignflow.models.trainers.live_models import LiveModels
from alignflow.models.trainers.participants import Participants

PLACES: tuple[tuple[Any, str, str], ...] = (
    (rollout_source, "sample_rollouts", "sampling"),
    (online_preference, "sample_rollouts", "sampling"),
    (WeightedRewards, "score", "scores"),
    (online, "answer_statistics", "log-probabilities of the policy"),
    (online_preference, "answer_statistics", "log-probabilities of the policy"),
    (Participants, "reference_logps", "log-probabilities of the reference"),
    (LiveModels, "reference_logps", "log-probabilities of the reference"),
    (Participants, "values", "values"),
    (online, "take_steps", "steps"),
    (online_preference, "preference_step", "steps"),
)
REST = "the rest: states on disk, advantages, figures"


class Clock:
    """CPU seconds by name, from calls that do not stand inside each other."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, its calls measured."""

        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.spent[name] += time.process_time() - start

        return measured


def new_run(root: Path) -> Run:
    """Paths of a stage below `root`, empty, and one thread."""
    places = {name: root / name for name in ("out", "side", "work", "rows")}
    for place in places.values():
        place.mkdir(parents=True)
    return Run(**places, runtime=Runtime())


def prepare(root: Path, asked: argparse.Namespace) -> dict[str, Path]:
    """The stages before `align`: a policy, prompts, and a reward model for PPO."""
    base = new_run(root / "base")
    initialise(InitConfig(path=str(asked.model)), run=base)
    texts = pandas.read_parquet(asked.prompts)["prompt"].astype(str).drop_duplicates()
    texts = [text for text in texts if len(text) <= asked.longest][: 4 * asked.answers]
    rows = [{"id": f"q{i}", "source": "t", "prompt": user(text), "instructions": None} for i, text in enumerate(texts)]
    write_table(rows, "prompts", root / "prompts" / "train.parquet")
    found = {"policy": base.out, "reference": base.out, "prompts": root / "prompts"}
    if asked.method != "ppo":
        return found
    reward = new_run(root / "reward")
    scorer = build_reward_model(base.out, Runtime())
    torch.nn.init.normal_(scorer.model.score.weight, std=0.1)
    save_model(scorer, reward.out, {"A reward model": "With a fresh head."})
    return {**found, "reward_model": reward.out}


def config_of(asked: argparse.Namespace) -> AlignConfig:
    """The training that is asked for."""
    options: dict[str, Any] = {"response_length": asked.response}
    prompts = asked.answers
    if asked.method == "ppo":
        options["num_ppo_epochs"] = asked.epochs
    else:
        row = METHODS[asked.method]
        reward = {"name": "function", "options": {"function": f"{Path(__file__).with_name('online_methods.py')}:score"}}
        options |= {"num_generations": row.generations, "rewards": [reward], **row.ours}
        prompts = asked.answers // row.generations if asked.method == "online_dpo" else asked.answers
    return AlignConfig(
        method=asked.method,
        max_steps=asked.updates,
        batch_size=prompts,
        max_length=asked.longest + asked.response,
        logging_steps=1,
        options=options,
    )


def main() -> None:
    """Train some updates, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--method", choices=["ppo", *METHODS], default="ppo")
    for name, value in (("answers", 64), ("response", 64), ("updates", 3), ("epochs", 4), ("longest", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clock, ends = Clock(), list[float]()
    for holder, attribute, name in PLACES:
        setattr(holder, attribute, clock.around(getattr(holder, attribute), name))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inputs = prepare(root, asked)
        run = new_run(root / "align")

        def at_a_point(step: int, metrics: dict[str, float]) -> None:
            ends.append(time.process_time())
            if step == 1:
                clock.spent.clear()

        run.listeners.append(at_a_point)
        align(config_of(asked), run=run, **inputs)
    updates, total = asked.updates - 1, ends[-1] - ends[0]
    spent = {**clock.spent, REST: total - sum(clock.spent.values())}
    print(f"{total / updates:.2f} CPU s an update, {asked.answers * updates / total:.2f} answers per CPU s")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds / total:.1%} | {seconds / updates:.3f} |")


if __name__ == "__main__":
    main()
