"""Config of the tracker: where a run sends its settings and metrics beside the store."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from alignflow.data.configs.base import StageConfig, runtime_field
from alignflow.data.logins import has_login


class TrackingConfig(StageConfig):
    """An experiment tracker. It gets what the artifacts hold already, so it is part of no key."""

    name: Literal["mlflow", "wandb"] = runtime_field(
        description="mlflow: needs pip install 'alignflow[mlflow]'; wandb: Weights & Biases, needs pip install 'alignflow[wandb]'."
    )
    project: str = runtime_field(
        default="alignflow",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$",
        description="The experiment of MLflow, or the project of W&B.",
    )
    uri: str | None = runtime_field(
        default=None,
        min_length=1,
        max_length=2000,
        description="The tracking URI of MLflow, such as sqlite:////data/mlflow.db; empty: MLFLOW_TRACKING_URI, or MLflow's own default.",
    )
    mode: Literal["online", "offline"] = runtime_field(
        default="online", description="W&B: online sends at once; offline writes files for `wandb sync`."
    )
    directory: str | None = runtime_field(
        default=None,
        min_length=1,
        max_length=2000,
        description="Where W&B writes its files; empty: the directory wandb/ of the current one.",
    )

    @model_validator(mode="after")
    def _fields_belong_to_the_tracker(self) -> TrackingConfig:
        unread = ("mode", "directory") if self.name == "mlflow" else ("uri",)
        for field in unread:
            if getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field} is not read where name is {self.name}")
        if self.uri and has_login(self.uri):
            raise ValueError(
                "uri holds a login, which recipes and records would keep: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        return self
