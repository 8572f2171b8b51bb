"""The whole recipe: what a YAML file may say, and the one parameter of the pipeline flow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from alignflow.data.configs.base import ContentPath, StageConfig, runtime_field, seed_field
from alignflow.data.configs.gates import GateConfig
from alignflow.data.configs.generation import EvaluateConfig, LabelConfig, ReportConfig, SampleConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.inputs import InitConfig, PrepareConfig
from alignflow.data.configs.iterated import RoundsConfig
from alignflow.data.configs.judging import JudgeEvalConfig
from alignflow.data.configs.merging import MergeConfig
from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.configs.selecting import SelectConfig
from alignflow.data.configs.tracking import TrackingConfig
from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig
from alignflow.data.configs.variables import never_passed

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class EngineConfig(StageConfig):
    """On what to compute. `auto` is a fixed rule over chip, installed packages and model."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA where the machine has it.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 products on GPUs that have them, and on CPUs with AVX512-BF16 or AMX from width 192 on; else fp32.",
    )
    training: Literal["auto", "deepspeed", "torch"] = Field(
        default="auto", description="auto: DeepSpeed where it is installed."
    )
    generator: GeneratorConfig = Field(
        default_factory=GeneratorConfig,
        description="What samples, judges and answers where the role names no engine of its own.",
    )
    threads: int | None = runtime_field(
        default=None,
        ge=1,
        le=4096,
        description="CPU threads of a process; empty: the machine's cores, shared among a stage's processes on it, 8 at most.",
    )
    micro_batch_tokens: int | None = runtime_field(
        default=None,
        ge=64,
        le=1_000_000_000,
        description="Tokens of one forward pass; empty: 2048 on a CPU, whose caches they fit better, 8192 on a GPU.",
    )
    processes: int = runtime_field(
        default=1,
        ge=1,
        le=1024,
        description="Training processes per node, started by torchrun where there are several.",
    )
    nodes: int = runtime_field(
        default=1, ge=1, le=100_000, description="Machines that train together; the others run `alignflow node`."
    )
    node_rank: int = runtime_field(
        default=0, ge=0, le=99_999, description="Number of this machine; a recipe is run on node 0."
    )
    rendezvous: str | None = runtime_field(
        default=None,
        pattern=r"^[^\s:/]+:[0-9]{1,5}$",
        description="HOST:PORT of node 0, where the nodes meet; for several nodes only.",
    )
    zero_stage: Literal[0, 1, 2, 3] = runtime_field(
        default=1,
        description="DeepSpeed ZeRO: 1 shares out the optimizer, 2 gradients too, 3 weights too; 0 runs as 1.",
    )
    offload: Literal["none", "optimizer", "all"] = runtime_field(
        default="none",
        description="What waits in CPU memory: the optimizer (ZeRO 1-3), or the weights too (all; ZeRO 3).",
    )
    task_runner: Literal["local", "dask"] = runtime_field(
        default="local",
        description="Who runs shards: a pool of this machine, or Dask, over several machines that see the store.",
    )
    dask_address: str | None = runtime_field(
        default=None,
        pattern=r"^[a-z]+://\S+$",
        description="A Dask scheduler, for example tcp://HOST:8786; empty: a cluster on this machine.",
    )
    timeout_s: float | None = runtime_field(
        default=None, gt=0, le=1_000_000_000, description="Seconds after which a stage is stopped; empty: never."
    )
    environment: tuple[VariableName, ...] = runtime_field(
        default=(),
        description="Names of environment variables that your own judge, reward function or loss reads, such as a key; stages get no others of yours.",
    )

    @model_validator(mode="after")
    def _variables_may_be_passed(self) -> EngineConfig:
        for name in self.environment:
            if why := never_passed(name):
                raise ValueError(f"{name} is never passed to a stage: {why}")
        return self

    @model_validator(mode="after")
    def _ports_exist(self) -> EngineConfig:
        for name in ("rendezvous", "dask_address"):
            port = (getattr(self, name) or "").rpartition(":")[2]
            if port.isdecimal() and not 0 < int(port[:9]) < 65536:
                raise ValueError(f"{name}: there is no port {port[:9]}, only 1 to 65535")
        return self


class ReplaceConfig(StageConfig):
    """What you already have, in place of a stage."""

    sft: ContentPath | None = Field(default=None, description="Directory of an SFT model.")
    sample: ContentPath | None = Field(default=None, description="Completions: prompt, completions.")
    label: ContentPath | None = Field(default=None, description="Preference pairs: prompt, chosen, rejected.")
    reward: ContentPath | Annotated[tuple[ContentPath, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="Directory of a reward model (AutoModelForSequenceClassification), or a list of them: an ensemble, whose scores "
        "reward.aggregate combines.",
    )
    align: ContentPath | None = Field(default=None, description="Directory of an aligned model, to evaluate it.")


class Recipe(StageConfig):
    """An alignment run from raw data to an evaluated model."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the run.")
    seed: int = seed_field("Seed of every stage that does not set its own.")
    model: InitConfig = Field(default_factory=InitConfig, description="The base model.")
    data: PrepareConfig = Field(default_factory=PrepareConfig, description="The data.")
    replace: ReplaceConfig = Field(default_factory=ReplaceConfig, description="Stages that you have the result of.")
    sft: SFTConfig | None = Field(default_factory=SFTConfig, description="null: align the base model as it is.")
    judge_eval: JudgeEvalConfig | None = Field(
        default=None, description="The judge measured on human labels before it labels; empty: not measured."
    )
    sample: SampleConfig | None = Field(
        default_factory=SampleConfig, description="Candidate answers; null: none are sampled."
    )
    revise: ReviseConfig | None = Field(
        default=None, description="Critique and revision of the candidate answers before they are labelled; null: none."
    )
    label: LabelConfig | None = Field(
        default_factory=LabelConfig, description="The AI judge; null: nothing is labelled."
    )
    select: SelectConfig | None = Field(
        default=None,
        description="Which of a round's scored answers are kept for training; empty: all, and the best one for a method that imitates.",
    )
    reward: RewardConfig | None = Field(default_factory=RewardConfig, description="null: no reward model.")
    align: AlignConfig | None = Field(
        default_factory=AlignConfig,
        description="null: no alignment; nothing is sampled and labelled either, unless the recipe has a section that asks for it.",
    )
    rounds: RoundsConfig = Field(
        default_factory=RoundsConfig,
        description="Rounds of sample, label and align, for methods that learn from data that is there.",
    )
    merge: MergeConfig | None = Field(
        default=None,
        description="Align the base instead of the SFT model, and merge the adapters of sft and align; empty: align the SFT model.",
    )
    evaluate: EvaluateConfig | None = Field(default_factory=EvaluateConfig, description="null: no evaluation.")
    report: ReportConfig | None = Field(default_factory=ReportConfig, description="null: no report.")
    gates: tuple[GateConfig, ...] = runtime_field(
        default=(), description="Conditions on metrics, checked as a run passes their step."
    )
    tracking: TrackingConfig | None = runtime_field(
        default=None,
        description="An experiment tracker that gets settings and metrics of each run; empty: nothing is sent.",
    )
    engine: EngineConfig = Field(default_factory=EngineConfig, description="On what to compute.")

    @model_validator(mode="after")
    def _gates_are_told_apart(self) -> Recipe:
        labels = [gate.label for gate in self.gates]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two gates are called {label!r}: give one of them a name")
        return self
