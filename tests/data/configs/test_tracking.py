"""The tracker of a recipe: fields that it does not read, and logins, are refused."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.tracking import TrackingConfig


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "mlflow", "mode": "offline"}, "mode is not read where name is mlflow"),
        ({"name": "mlflow", "directory": "here"}, "directory is not read"),
        ({"name": "wandb", "uri": "sqlite:///a.db"}, "uri is not read where name is wandb"),
        ({"name": "mlflow", "uri": "https://me:secret@host"}, "MLFLOW_TRACKING_PASSWORD"),
        ({"name": "mlflow", "uri": "postgresql://u:p/w@h/db"}, "holds a login"),
        ({"name": "mlflow", "uri": "postgresql://h/db?user=a&password=b"}, "holds a login"),
        ({"name": "tensorboard"}, "Input should be 'mlflow' or 'wandb'"),
    ],
)
def test_what_a_tracker_does_not_read_is_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        TrackingConfig.model_validate(values)


def test_a_server_without_a_login_in_its_address_is_taken():
    assert TrackingConfig(name="mlflow", uri="https://host:5000/path").uri
