"""What a stage's process is given of its parent's environment."""

import json
import os

import pytest

from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import UserError
from alignflow.tasks.launch.environment import needs_the_hub, stage_environment, withheld
from alignflow.tasks.launch.stage import run_stage

SECRETS = {
    "PREFECT_API_AUTH_STRING": "user:word",
    "PREFECT_API_KEY": "k",
    "AWS_SECRET_ACCESS_KEY": "k",
    "HF_TOKEN": "hf",
    "OPENAI_API_KEY": "sk",
    "GITHUB_TOKEN": "t",
    "WANDB_API_KEY": "w",
    "HTTPS_PROXY": "http://user:word@proxy",
    "DATABASE_URL": "postgresql://u:p@h",
    "SSH_AUTH_SOCK": "/s",
    "ALIGNFLOW_DATABASE": "postgresql://u:pw@h/d",
    "NVIDIA_API_KEY": "nv",
    "DS_TOKEN": "ds",
    "TORCH_X_SECRET": "ts",
    "NVIDIA_APIKEY": "nv",
    "DS_DB_PASS": "dp",
    "HF_HUB_ACCESSTOKEN": "ha",
    "ALIGNFLOW_password": "ap",
    "TRANSFORMERS_CLIENT_CREDENTIALS": "tc",
    "ARROW_STORE": "s3://key:word@host/bucket",
    "TORCH_STORE": "redis://:w/rd@host",
    "UCX_STORE": "https://token@host",
}
RUNS_CODE = {
    "LD_PRELOAD": "/evil.so",
    "PYTHONSTARTUP": "/evil.py",
    "CUDA_INJECTION64_PATH": "/evil.so",
    "BASH_ENV": "/evil.sh",
    "LD_AUDIT": "/evil.so",
}
NEEDED = {
    "PATH": "/bin",
    "HOME": "/home",
    "LANG": "C",
    "LC_ALL": "C",
    "TZ": "UTC",
    "LD_LIBRARY_PATH": "/cuda",
    "CUDA_VISIBLE_DEVICES": "1",
    "NCCL_DEBUG": "INFO",
    "OMP_NUM_THREADS": "2",
    "HF_HOME": "/hf",
    "HF_HUB_OFFLINE": "1",
    "TORCH_LOGS": "x",
    "XDG_CACHE_HOME": "/c",
    "ALIGNFLOW_HOME": "/a",
    "SSL_CERT_FILE": "/c",
    "NCCL_IB_PKEY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_ENDPOINT": "https://mirror:8080/hub",
}


def test_what_libraries_read_is_passed_and_secrets_are_not():
    given = stage_environment({**SECRETS, **RUNS_CODE, **NEEDED})
    assert {name: given[name] for name in NEEDED} == NEEDED
    assert not set(given) & {*SECRETS, *RUNS_CODE} and given["PYTHONSAFEPATH"] == "1"
    assert set(withheld({**SECRETS, **NEEDED}, given)) == set(SECRETS)


def test_a_stage_that_loads_from_the_hub_gets_its_token_and_the_proxy():
    given = stage_environment(SECRETS, hub=True)
    assert given["HF_TOKEN"] == "hf" and given["HTTPS_PROXY"] and "AWS_SECRET_ACCESS_KEY" not in given
    assert needs_the_hub({"config.path": "hub:owner/model@abc"}, {}, ()) and not needs_the_hub(
        {"config.path": "0f" * 32}, {"path": "/nowhere"}, ()
    )


def test_the_address_of_a_mirror_that_holds_a_login_is_for_stages_that_load_from_the_hub():
    mirror = {"HF_ENDPOINT": "https://user:word@mirror"}
    assert "HF_ENDPOINT" not in stage_environment(mirror)
    assert stage_environment(mirror, hub=True)["HF_ENDPOINT"] == mirror["HF_ENDPOINT"]


def test_a_recipe_may_name_a_variable_that_only_looks_like_a_secret():
    assert stage_environment({"NVIDIA_API_KEY": "nv"}, ["NVIDIA_API_KEY"])["NVIDIA_API_KEY"] == "nv"


def test_an_adapter_whose_base_lies_on_the_hub_loads_from_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    assert needs_the_hub({}, {"path": str(tmp_path)}, ()) and needs_the_hub({}, {}, [tmp_path])


def test_a_recipe_names_what_the_users_own_code_reads():
    assert stage_environment(SECRETS, ["OPENAI_API_KEY"])["OPENAI_API_KEY"] == "sk"
    with pytest.raises(UserError, match="NOT_THERE is not set"):
        stage_environment(SECRETS, ["NOT_THERE"])


@pytest.mark.parametrize("name", ["PREFECT_API_KEY", "LD_PRELOAD", "PYTHONSTARTUP", "RANK", "A=B", "a b", ""])
def test_what_runs_code_or_logs_in_cannot_be_named(name):
    with pytest.raises(ValueError):
        EngineConfig(environment=(name,))


@pytest.mark.parametrize("given", ["", os.pathsep, f"{os.pathsep}/mine"])
def test_an_empty_entry_of_the_search_path_is_not_the_working_directory(given):
    assert stage_environment({"PYTHONPATH": given})["PYTHONPATH"] == given.strip(os.pathsep)


def test_a_stages_process_has_no_secret_and_its_log_says_what_it_was_not_given(
    call_of, toy, store, monkeypatch, tmp_path
):
    for name, value in {**SECRETS, **RUNS_CODE}.items():
        if name not in ("LD_PRELOAD", "LD_AUDIT"):
            monkeypatch.setenv(name, value)
    folder = tmp_path / "toy"
    code = (folder / "toy_stage.py").read_text()
    writes = '"write": lambda config, run: (run.out / "environment.json").write_text(__import__("json").dumps(dict(os.environ)))'
    (folder / "toy_stage.py").write_text(code.replace('"write": lambda config, run: None', writes))
    ref, _ = run_stage(call_of(), store)
    found = json.loads((store.payload(ref) / "environment.json").read_text())
    assert not set(found) & {*SECRETS, *RUNS_CODE} and not {name for name in found if name.startswith("PREFECT_")}
    log = (store.directory(ref.key) / "side" / "log.txt").read_text()
    assert (
        "AWS_SECRET_ACCESS_KEY" in log
        and "did not get" in log
        and not any(value in log for value in ("user:word", "postgresql://"))
    )


def test_a_stage_that_asks_another_machine_gets_the_proxies_and_no_token_of_the_hub():
    given = {**SECRETS, "https_proxy": "http://proxy:1"}
    passed = stage_environment(given, ("OPENAI_API_KEY",), proxies=True)
    assert {"HTTPS_PROXY", "https_proxy", "OPENAI_API_KEY"} <= passed.keys() and "HF_TOKEN" not in passed
    assert not {"HTTPS_PROXY", "OPENAI_API_KEY"} & stage_environment(given).keys()
