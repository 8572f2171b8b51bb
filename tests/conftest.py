"""Every test has a store of its own, Prefect writes to a temporary home, and nothing phones home."""

import os
import signal
import tempfile

_HOME = tempfile.mkdtemp(prefix="alignflow-prefect-")
os.environ.update(
    PREFECT_HOME=_HOME,
    OMP_WAIT_POLICY="PASSIVE",
    DO_NOT_TRACK="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_LEVEL="CRITICAL",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="180",
    PREFECT_RESULTS_DEFAULT_SERIALIZER="json",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.pop("PREFECT_API_URL", None)
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's job in the background ignores it, and so would what tests start

import shutil  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

from alignflow.data.configs.loading import load_recipe  # noqa: E402
from alignflow.flows.calls import Caller  # noqa: E402
from alignflow.tasks.launch.stage import run_stage  # noqa: E402
from alignflow.tasks.store.artifact_store import ArtifactStore  # noqa: E402

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def store_root(tmp_path, monkeypatch):
    """The root of this test's store, as ALIGNFLOW_HOME."""
    root = tmp_path / "store"
    monkeypatch.setenv("ALIGNFLOW_HOME", str(root))
    return root


@pytest.fixture
def store(store_root):
    return ArtifactStore(store_root)


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def first_stages(tmp_path_factory, worker_id):
    """A store with `init` and `prepare` of the tiny recipe, made for real, and their references; one for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "first-stages"
    with FileLock(f"{root}.lock"):
        store = ArtifactStore(root)
        caller, refs = Caller(load_recipe(REPOSITORY / "recipes" / "tiny.yaml"), store), {}
        for node in caller.nodes[:2]:
            refs[node.name] = run_stage(caller.call(node, refs), store)[0]
    return root, refs


@pytest.fixture
def made(first_stages, store):
    """References to `init` and `prepare` of the tiny recipe, which this test's store has."""
    root, refs = first_stages
    with FileLock(f"{root}.lock"):  # another process may be looking into it, which writes what it remembers of files
        shutil.copytree(root, store.root, dirs_exist_ok=True)
    return dict(refs)


def pytest_sessionfinish():
    shutil.rmtree(_HOME, ignore_errors=True)
