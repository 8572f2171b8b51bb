"""The stages: cached steps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part
from alignflow.data.configs import generation, inputs, judging, merging, revising, selecting, training
from alignflow.data.configs.base import StageConfig


@dataclass(frozen=True)
class Stage(Part):
    """One cached step: `body(config, *, <inputs>, run) -> metrics`.

    Attributes:
        config: Type of its config.
        takes: Names of its inputs; a trailing `?` marks an optional one. A trailing `*` marks one that takes any number of artifacts:
            every input of a call that no other name claims. The body gets a mapping from the input's name, that of its step, to the path.
        makes: Kind of the artifact: checkpoint, reward_model, dataset, evaluation or report.
        trains: Whether it runs on the training engine.
        generates: Whether it runs a generator.
        scores: Whether it runs a model to score what is there, in the processes that train.
        without_torch: Whether its body needs no torch, so that its process does not load it with transformers.
        fills: Address of the function that journals a shard of its rows, `(config, *, <inputs>, run, share)`; empty: the stage cannot be sharded.
    """

    config: type[StageConfig] = StageConfig
    takes: tuple[str, ...] = ()
    makes: str = "dataset"
    trains: bool = False
    generates: bool = False
    scores: bool = False
    without_torch: bool = False
    fills: str = ""

    @property
    def single_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that take one artifact at most, without their marks."""
        return tuple(name.rstrip("?") for name in self.takes if not name.endswith("*"))

    @property
    def many_inputs(self) -> str:
        """Name of the input that takes any number of artifacts; empty where there is none."""
        return next((name.removesuffix("*") for name in self.takes if name.endswith("*")), "")


STAGES: Mapping[str, Stage] = {
    "init": Stage(
        "alignflow.models.initialise:initialise",
        "Load the base model, or build a small one.",
        config=inputs.InitConfig,
        makes="checkpoint",
        version="4",
    ),
    "prepare": Stage(
        "alignflow.data.prepare:prepare",
        "Parse, clean, split and describe the data.",
        config=inputs.PrepareConfig,
        takes=("tokenizer",),
        makes="dataset",
        version="7",
        without_torch=True,
    ),
    "sft": Stage(
        "alignflow.models.trainers.sft:train_sft",
        "Supervised fine-tuning on assistant tokens.",
        config=training.SFTConfig,
        takes=("base", "demonstrations"),
        makes="checkpoint",
        trains=True,
        version="4",
    ),
    "judge_eval": Stage(
        "alignflow.models.judges.judge_eval:judge_eval",
        "Measure a judge on human labels, and fit its calibration.",
        config=judging.JudgeEvalConfig,
        takes=("policy?", "reward_model?"),
        makes="evaluation",
        generates=True,
        version="3",
    ),
    "sample": Stage(
        "alignflow.models.generation.sample:sample",
        "Sample candidate answers.",
        config=generation.SampleConfig,
        takes=("policy", "prompts"),
        makes="dataset",
        generates=True,
        fills="alignflow.models.generation.sample:fill_samples",
    ),
    "revise": Stage(
        "alignflow.models.judges.revise:revise",
        "A language model criticises answers by a principle and writes them anew.",
        config=revising.ReviseConfig,
        takes=("completions", "policy?"),
        makes="dataset",
        generates=True,
        fills="alignflow.models.judges.revise:fill_revisions",
    ),
    "label": Stage(
        "alignflow.models.judges.label:label",
        "An AI judge turns candidates into pairs, rankings, best and worst, good and bad answers.",
        config=generation.LabelConfig,
        takes=("completions", "policy?", "reward_model?", "preferences?", "calibration?"),
        makes="dataset",
        generates=True,
        version="7",
        fills="alignflow.models.judges.label:fill_labels",
    ),
    "select": Stage(
        "alignflow.data.selecting:select",
        "Keep the best of the scored answers, as demonstrations, lists and pairs.",
        config=selecting.SelectConfig,
        takes=("rankings",),
        makes="dataset",
        without_torch=True,
    ),
    "reward": Stage(
        "alignflow.models.trainers.reward:train_reward",
        "Reward model, from pairs, lists, scores or labels.",
        config=training.RewardConfig,
        takes=("base", "preferences?", "unpaired?", "rankings?"),
        makes="reward_model",
        trains=True,
        version="6",
    ),
    "reference": Stage(
        "alignflow.models.reference:compute_reference",
        "Log-probabilities of the answers under the frozen reference.",
        config=training.ReferenceConfig,
        takes=("checkpoint", "preferences?", "unpaired?", "rankings?", "win_rates?"),
        makes="dataset",
        scores=True,
        version="3",
    ),
    "split": Stage(
        "alignflow.data.parts:split",
        "Cut the pairs into parts, one for each round of a staged method.",
        config=training.SplitConfig,
        takes=("preferences", "reference?"),
        makes="dataset",
        without_torch=True,
    ),
    "align": Stage(
        "alignflow.models.trainers.align:align",
        "Align the SFT model by a method of the catalogue.",
        version="4",
        config=training.AlignConfig,
        takes=(
            "policy",
            "reference?",
            "preferences?",
            "unpaired?",
            "rankings?",
            "win_rates?",
            "prompts?",
            "reward_model?",
            "demonstrations?",
        ),
        makes="checkpoint",
        trains=True,
    ),
    "merge": Stage(
        "alignflow.models.merged_adapters:merge_adapters",
        "Merge the adapters of SFT and of alignment, trained from one base.",
        config=merging.MergeConfig,
        takes=("base", "sft", "aligned"),
        makes="checkpoint",
    ),
    "evaluate": Stage(
        "alignflow.models.evaluators.evaluate:evaluate",
        "Aligned against SFT on held-out prompts.",
        config=generation.EvaluateConfig,
        takes=("aligned", "sft", "prompts", "general?", "reward_model?"),
        makes="evaluation",
        generates=True,
        version="3",
        fills="alignflow.models.evaluators.evaluate:fill_answers",
    ),
    "report": Stage(
        "alignflow.data.report.body:report",
        "JSON and one HTML page about the run.",
        config=generation.ReportConfig,
        takes=("steps*",),
        version="4",
        makes="report",
    ),
    "reward_ensemble": Stage(
        "alignflow.models.trainers.ensemble:make_ensemble",
        "Several reward models as one.",
        config=training.RewardEnsembleConfig,
        takes=("preferences?", "unpaired?", "rankings?", "members*"),
        makes="reward_model",
    ),
    "adopt_reward": Stage(
        "alignflow.models.adopt:adopt_reward_model",
        "Take in a reward model that you already have.",
        config=inputs.AdoptConfig,
        makes="reward_model",
    ),
}
