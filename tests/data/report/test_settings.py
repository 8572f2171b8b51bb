"""What a recipe changed in a stage."""

from types import SimpleNamespace

from alignflow.data.configs.training import SFTConfig
from alignflow.data.report.settings import changed_settings, default_settings


def test_changed_and_default_settings_are_all_settings():
    config = SFTConfig(learning_rate=3e-4, max_steps=7).model_dump(mode="json")
    manifest = SimpleNamespace(stage="sft", config=config)
    assert changed_settings(manifest) == {"learning_rate": 3e-4, "max_steps": 7}
    assert changed_settings(manifest) | default_settings(manifest) == config
