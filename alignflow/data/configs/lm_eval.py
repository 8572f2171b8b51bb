"""Config of the evaluator `lm_eval`: tasks of the lm-evaluation-harness."""

from __future__ import annotations

from pydantic import Field, model_validator

from alignflow.data.configs.base import ContentPath, Name, StageConfig, runtime_field


class LmEvalConfig(StageConfig):
    """Tasks of the lm-evaluation-harness, for both models."""

    tasks: tuple[Name, ...] = Field(
        min_length=1, description="Names of tasks or groups: of the harness itself, or of include_path."
    )
    include_path: ContentPath | None = Field(
        default=None, description="Directory with tasks of your own: YAML files, and the data that they name."
    )
    limit: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="Only the first examples of each task, this many; empty: all."
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, le=1000, description="Solved examples before each question; empty: as the task says."
    )
    chat_template: bool = Field(
        default=False, description="Ask each question as a turn of the user, written by the model's chat template."
    )
    allow_code: bool = Field(
        default=False,
        description="Run the code that tasks of include_path bring along: !function, free Jinja templates, metrics by path.",
    )
    batch_size: int = runtime_field(
        default=64, gt=0, le=1_000_000, description="Requests that are handed to the model together."
    )

    @model_validator(mode="after")
    def _tasks_are_named_once(self) -> LmEvalConfig:
        for name in self.tasks:
            if self.tasks.count(name) > 1:
                raise ValueError(f"tasks: {name!r} is there twice")
        if self.allow_code and self.include_path is None:
            raise ValueError("allow_code is about tasks of include_path, and there is none")
        return self
