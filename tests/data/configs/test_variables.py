"""Variables of the environment that no stage's process gets."""

import pytest

from alignflow.data.configs.variables import never_passed


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("LD_PRELOAD", "other code"),
        ("PYTHONSTARTUP", "other code"),
        ("PREFECT_API_AUTH_STRING", "login"),
        ("RANK", "sets it"),
        ("TORCHELASTIC_RUN_ID", "sets it"),
    ],
)
def test_what_runs_code_holds_a_login_or_is_the_launchers_is_refused_with_the_reason(name, why):
    assert why in never_passed(name)


@pytest.mark.parametrize("name", ["HF_TOKEN", "NCCL_DEBUG", "MY_RANK", "prefect_api_url"])
def test_any_other_may_be_passed(name):
    assert never_passed(name) == ""
