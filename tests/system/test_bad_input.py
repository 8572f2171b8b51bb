"""Nonsense on the command line: exit status 2, one message on stderr, no traceback, and nothing is left in the store.

The command runs in this process, and once for each kind of nonsense in a process of its own.
"""

import subprocess
import sys

import pytest

from alignflow.cli.app import main

pytestmark = pytest.mark.system
TINY = "recipes/tiny.yaml"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
SETTINGS = [
    ("sample.n=true", "sample.n"),
    ("align.options.beta='0.1'", "align.options.beta"),
    ("seed=99999999999999999999", "seed"),
    ("sft.batch_size=1000000000000000000", "batch_size"),
    ("sample.temperature=1e-300", "too near 0"),
    ("label.judge.name=json:NoSuchClass", "defines no NoSuchClass"),
    ("label.judge.name=os:system", "defines no system"),
    ("label.judge.name=sys:exit", "no such Python module"),
    ("data.prompts.0.path=''", "the path is empty"),
    ("data.prompts.0.path=//", "root of the file system"),
    ("data.prompts.0.path='~'", "home directory"),
    ("data.prompts.0.path=~nobody-here/x", "does not have"),
    ("data.prompts.0.path=" + "x" * 300, "too long"),
    ("a..b=1", "not a place"),
    ("align={beta: 1, beta: 2}", "there twice"),
    ("model.chat_template=" + "y" * 400, "no chat template"),
]
FILES = [
    (b"name: x\nsft: {}\nsft: {}\n", "lines 2 and 3"),
    (BOMB.encode(), "aliases"),
    (b"x: " + b"[" * 5000, "nested deeper"),
    (b"x: !!python/name:os.system\n", "not allowed"),
    (b"name: \xff\n", "line 1: it is not UTF-8"),
    (b"", "must be a mapping"),
    (b"data: &x [*x]\n", "contains itself"),
    (b"#" * 1_000_000, "larger than"),
]


@pytest.fixture
def check(repository, store_root, monkeypatch, capfd):
    """Call a command that must be refused, in this process or in one of its own; what its message has in it."""
    monkeypatch.chdir(repository)

    def here(words):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capfd.readouterr().err

    def elsewhere(words):
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, errors="replace", timeout=60
        )
        return done.returncode, done.stderr

    def refused(what, *arguments, process=False):
        status, said = (elsewhere if process else here)(["alignflow", *map(str, arguments)])
        assert status == 2, said
        assert what in said and said.count("alignflow: ") == 1 and "Traceback" not in said and len(said) < 1500
        assert not store_root.exists(), "a refused recipe makes no store"

    return refused


@pytest.mark.parametrize(("setting", "what"), SETTINGS, ids=[setting[:40] for setting, _ in SETTINGS])
def test_a_setting_that_means_nothing(check, setting, what):
    check(what, "plan", TINY, "--set", setting, process=setting == SETTINGS[0][0])


@pytest.mark.parametrize(("content", "what"), FILES, ids=[what for _, what in FILES])
def test_a_file_that_is_no_recipe(check, tmp_path, content, what):
    (tmp_path / "recipe.yaml").write_bytes(content)
    check(what, "run", tmp_path / "recipe.yaml", process=content == BOMB.encode())


@pytest.mark.parametrize("path", ["/dev/zero", "x" * 300 + ".yaml", "recipes"])
def test_a_recipe_that_is_no_file(check, path):
    check("", "run", path, process=path == "/dev/zero")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [("a.json", b"null", "holds null"), ("a.jsonl.gz", b"no", "gzip"), ("a.json", b"[" * 100_000, "not JSON")],
)
def test_data_that_is_none(check, tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    check(
        what,
        "new",
        "--model",
        "some/model",
        "--data",
        tmp_path / name,
        "--output",
        tmp_path / "out.yaml",
        process=name == "a.json",
    )
    assert not (tmp_path / "out.yaml").exists()
