"""Files of the working directory from which Prefect would take settings are refused, however they are written."""

import os

import pytest

from alignflow.data.errors import UserError
from alignflow.server.working_directory import refuse_prefect_files

NAME = "PREFECT_LOGGING_CONFIG_PATH"


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}=x\n",
        f"export {NAME} = x",
        f"{NAME.lower()}=x",
        f"{NAME}",
        f"'{NAME}'=x\n",
        f"export '{NAME}' = x\n",
        f"A=1\r{NAME}=x\n",
        f"\u00a0{NAME}=x\n",
        f"A='one\ntwo'\n{NAME}=x",
        f"\x0c{NAME}=x",
        f"A=1\n\n  # comment\n\t{NAME}=x",
    ],
)
def test_an_env_file_with_a_setting_of_prefects_is_refused_however_it_is_written(tmp_path, text):
    (tmp_path / ".env").write_bytes(text.encode())
    with pytest.raises(UserError, match=f"(?i){NAME}") as raised:
        refuse_prefect_files(tmp_path)
    assert raised.value.where.endswith(".env") and "another folder" in raised.value.do


@pytest.mark.parametrize(
    "text", ["", "PORT=80\n", f"# {NAME}=x\n", f"MY_{NAME}=x\n", f"A='one\n{NAME}=x\n'\n", f"A={NAME}\n"]
)
def test_an_env_file_without_one_is_left_alone(tmp_path, text):
    (tmp_path / ".env").write_bytes(text.encode())
    refuse_prefect_files(tmp_path)


def test_an_env_file_that_is_no_text_is_refused_with_one_message(tmp_path):
    (tmp_path / ".env").write_bytes(b"PORT=\xff\n")
    with pytest.raises(UserError, match="cannot be checked") as raised:
        refuse_prefect_files(tmp_path)
    assert "UTF-8" in raised.value.do


def test_a_pipe_is_refused_and_not_opened_for_prefect_reads_one_too(tmp_path):
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(UserError, match="pipe"):
        refuse_prefect_files(tmp_path)


def test_pipes_of_the_other_names_are_not_read_by_anybody(tmp_path):
    for name in ("prefect.toml", "pyproject.toml"):
        os.mkfifo(tmp_path / name)
    refuse_prefect_files(tmp_path)
