"""gc removes what alignflow made and nobody needs: nothing of anybody else's, and nothing that has come into use since it asked."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
from flow_support import publish, publish_all
from run_support import record_run
from tests_support import as_artifact
from waiting import wait_until

from alignflow.data.artifacts import ArtifactRef, Manifest, file_digest, manifest_text
from alignflow.data.configs.loading import load_recipe
from alignflow.data.encoded_place import directory_of
from alignflow.data.errors import DamagedArtifactError, StoreError
from alignflow.data.sharing import Sharing
from alignflow.flows.calls import Caller
from alignflow.tasks.launch.stage import rows_name, run_stage
from alignflow.tasks.store import gc
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gc import DAY_S, IN_USE, KEPT, Collection, Wish
from alignflow.tasks.store.last_good_run import remember
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.run_records import Asked, recording, records

FORK = multiprocessing.get_context("fork")
NOTHING = Wish(keep_last=0, unused_for_s=0)
SFT = "sft-" + "0a" * 20


@pytest.fixture(params=["store", "shared"])
def either(request, store):
    """A store of one machine, and one that machines share."""
    if request.param == "shared":
        store.share(Sharing(beat_s=0.1, expiry_s=1.0))
    return store


@pytest.fixture
def artifact(either, tmp_path):
    """Make an artifact of a key that took others."""
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "file").write_text("content")

    def make(key, *inputs):
        as_artifact(
            tmp_path / "content", either.root, key, inputs={name: either.manifest(name).ref() for name in inputs}
        )
        return key

    return make


def collected(store, wish=NOTHING):
    """Run gc; what it removed, and why the rest stayed, by path below the store."""
    collection = Collection(store, wish)
    done = {str(entry.path.relative_to(store.root)): why for entry, why in collection.remove(collection.plan().waste)}
    return {name for name, why in done.items() if not why}, {name: why for name, why in done.items() if why}


def plan(store, wish=NOTHING):
    return Collection(store, wish).plan()


def grow_old(path, days):
    for item in (*path.rglob("*"), path):
        os.utime(item, (time.time() - days * DAY_S,) * 2)


# Whose files they are.

FOREIGN = [
    "artifacts/mine/model.bin",
    "artifacts/sft-0123/notes.txt",
    f"artifacts/{SFT}/readme.txt",
    "staging/deploy/index.html",
    "staging/spec.json",
    f"staging/{SFT}/site/index.html",
    f"staging/nosuchstage-{'0' * 40}/payload/x",
    "work/thesis/chapter1.tex",
    "work/todo.txt",
    f"work/{SFT}@laptop-1-0123abcd/mine.txt",
    f"work/{SFT.upper()}/x",
    "quarantine/suspicious.exe",
    f"quarantine/{SFT}/x",
    "quarantine/removed-1/x",
    "gates/logic/and.v",
    f"gates/{SFT}/verdict.txt",
    "rows/table.csv",
    "rows/sft-0123456789abcdef/data.csv",
    "runs/experiment-1/log.txt",
    "runs/notes.log",
    f"runs/{SFT}.txt",
    "prefect/mine.txt",
    "data.csv",
]


def test_what_alignflow_did_not_make_stays_and_is_counted(either):
    for name in FOREIGN:
        (either.root / name).parent.mkdir(parents=True, exist_ok=True)
        (either.root / name).write_text("mine")
    grow_old(either.root / "rows", 1000)
    found = plan(either)
    assert found.waste == []
    left = {str(path.relative_to(either.root)) for path in found.others}
    assert left == {"/".join(name.split("/")[:2]) for name in FOREIGN if not name.startswith(("prefect", "data"))}
    assert all((either.root / name).read_text() == "mine" for name in FOREIGN)


@pytest.mark.parametrize("area", ["artifacts", "staging", "work", "quarantine", "rows", "gates"])
@pytest.mark.parametrize("where", ["entry", "area", "inside"])
def test_a_link_is_never_followed(store, tmp_path, area, where):
    mine = tmp_path / "mine"
    (mine / "payload").mkdir(parents=True)
    (mine / "payload" / "precious").write_text("mine")
    name = {"rows": "sft-0123456789abcdef", "quarantine": f"{SFT}-{time.time_ns()}"}.get(area, SFT)
    if where == "entry":
        (store.root / area / name).symlink_to(mine)
    elif where == "area":
        (mine / name / "payload").mkdir(parents=True)
        (store.root / area).rmdir()
        (store.root / area).symlink_to(mine)
    else:
        (store.root / area / name / "payload").mkdir(parents=True)
        (store.root / area / name / "payload" / "link").symlink_to(mine / "payload")
    collected(store)
    assert (mine / "payload" / "precious").read_text() == "mine"
    assert where != "inside" or area not in ("staging", "work", "quarantine") or not (store.root / area / name).exists()


def test_what_alignflow_made_goes(store, repository):
    recipe = load_recipe(repository / "recipes" / "tiny.yaml")
    made = publish_all(recipe, store)
    key = made["sft"].key
    for name in (
        f"staging/{key}/payload",
        f"work/{key}/step-00000001",
        f"quarantine/{key}-{time.time_ns()}-superseded",
        f"quarantine/removed-{time.time_ns()}-3",
    ):
        (store.root / name).mkdir(parents=True)
    (store.root / "runs" / f"{key}.log").write_text("log")
    remember(store, recipe.name, {"sft": key})
    assert collected(store)[1] == {}
    for area in ("artifacts", "staging", "work", "quarantine", "runs", "rows", "gates"):
        assert list((store.root / area).iterdir()) == [], area


def test_what_was_set_aside_goes_by_its_age_and_what_gc_had_begun_to_remove_goes_at_once(store):
    now, day_ns = time.time_ns(), int(DAY_S * 1e9)
    young, old = (f"{SFT}-{now - days * day_ns}" for days in (29, 31))
    verdicts = [f"verdict-{SFT}-{now - days * day_ns}.json" for days in (29, 31)]
    for name in (young, f"{young}-superseded", old, f"{old}-second", f"removed-{now}-3"):
        (store.root / "quarantine" / name).mkdir()
    for name in verdicts:
        (store.root / "quarantine" / name).write_text("{}")
    wish = Wish(keep_last=0, unused_for_s=30 * DAY_S)
    assert {entry.path.name for entry in plan(store, wish).recent} == {young, f"{young}-superseded", verdicts[0]}
    assert len(collected(store, wish)[0]) == 4
    assert len(collected(store)[0]) == 3 and not list((store.root / "quarantine").iterdir())


# What is used.


def test_what_a_live_process_pins_stays_with_everything_that_led_to_it(either, artifact):
    artifact("init-1"), artifact("prepare-1"), artifact("sft-1", "init-1"), artifact("label-1", "prepare-1")
    with using(either, "sft-1"):
        assert collected(either)[0] == {"artifacts/prepare-1", "artifacts/label-1"}
        assert {entry.path.name for entry in plan(either).in_use} == {"init-1", "sft-1"}
    assert collected(either)[0] == {"artifacts/init-1", "artifacts/sft-1"}


def test_what_has_come_into_use_since_the_question_stays(either, artifact):
    artifact("init-1"), artifact("sft-1", "init-1"), artifact("prepare-1")
    (either.root / "work" / SFT).mkdir()
    collection = Collection(either, NOTHING)
    waste = collection.plan().waste
    assert len(waste) == 4
    with using(either, "sft-1"), either.lock(SFT):
        assert {entry.path.name: why for entry, why in collection.remove(waste)} == {
            "init-1": IN_USE,
            "sft-1": IN_USE,
            SFT: IN_USE,
            "prepare-1": "",
        }


def test_what_a_new_artifact_took_since_the_question_stays(either, artifact):
    artifact("init-1"), artifact("prepare-1")
    collection = Collection(either, NOTHING)
    waste = collection.plan().waste
    artifact("sft-1", "init-1")  # a run has ended in between, and holds no pins any more
    assert {entry.path.name: why for entry, why in collection.remove(waste)} == {"init-1": KEPT, "prepare-1": ""}


def test_work_that_was_gone_on_with_since_the_question_stays(either):
    (either.root / "work" / SFT / "step-1").mkdir(parents=True)
    collection = Collection(either, NOTHING)
    waste = collection.plan().waste
    (either.root / "work" / SFT / "step-2").mkdir()  # a run has gone on with it, and was killed again
    assert [why for _, why in collection.remove(waste)] == [IN_USE]


def test_a_run_pins_the_half_done_work_that_it_will_get_to(either):
    (either.root / "work" / SFT).mkdir()
    with using(either, "work/sft"):
        assert plan(either).waste == []
    assert len(plan(either).waste) == 1


def test_an_input_that_is_gone_is_made_again(store, call_of):
    source, _ = run_stage(call_of(text="source"), store)
    shutil.rmtree(store.directory(source.key))
    with pytest.raises(DamagedArtifactError, match="no longer in the store") as raised:
        run_stage(call_of(source=source), store)
    assert raised.value.key == source.key


def test_a_running_stage_keeps_its_input_its_output_and_its_journal(either, call_of, tmp_path):
    source, _ = run_stage(call_of(text="source"), either)
    call, log = call_of(text="slow", act="slow", source=source, log=str(tmp_path / "log")), tmp_path / "log"
    thread = threading.Thread(target=run_stage, args=(call, ArtifactStore(either.root)))
    thread.start()
    wait_until(log.exists)
    removed, _ = collected(either)
    thread.join()
    assert removed == set() and either.find(source.key) and either.find(call.key)


def test_a_process_that_does_not_say_what_it_uses_stops_gc(either, artifact):
    artifact("init-1")
    with using(either, "init-1"):
        (file,) = (either.root / "pins").iterdir()
        file.write_text("")
        with pytest.raises(StoreError, match="pins of a running process cannot be read"):
            plan(either)


def test_a_model_that_another_recipe_named_by_its_path_is_kept_with_what_was_made_of_it(store, call_of):
    base, _ = run_stage(call_of(text="base"), store)
    made, _ = run_stage(call_of(text="made", file=str(store.payload(base) / "model.safetensors")), store)
    assert {entry.path.name for entry in plan(store, Wish((made.key,), 0)).waste} == set()


# Journals and logs.


@pytest.fixture
def journal(store, repository):
    """The journal of rows of a `label` that was interrupted, and the step's call."""
    recipe = load_recipe(repository / "recipes" / "tiny.yaml")
    made = publish_all(recipe, store, until="label")
    caller = Caller(recipe, store)
    (node,) = (node for node in caller.nodes if node.name == "label")
    call = caller.call(node, {name: manifest.ref() for name, manifest in made.items()})
    path = store.root / "rows" / rows_name("label", call.components)
    path.mkdir()
    (path / f"batch-{'0' * 32}.json").write_text("{}")
    return path, call


def test_a_journal_of_an_interrupted_run_stays_until_it_was_unused_for_the_time_that_the_user_set(store, journal):
    path, _ = journal
    wish = Wish(keep_last=9, unused_for_s=30 * DAY_S)
    grow_old(path, 29)
    assert [entry.path for entry in plan(store, wish).recent] == [path] and plan(store, wish).waste == []
    grow_old(path, 31)
    assert [entry.path for entry in plan(store, wish).waste] == [path]
    assert plan(store, Wish(keep_last=9, unused_for_s=40 * DAY_S)).waste == []


def test_a_journal_that_a_kept_artifact_used_stays_whatever_its_age(store, journal):
    path, call = journal
    publish(store, call)
    grow_old(path, 1000)
    assert path not in [entry.path for entry in plan(store, Wish(keep_last=1, unused_for_s=0)).waste]
    assert path in [entry.path for entry in plan(store).waste]


def test_a_journal_that_was_opened_since_the_question_stays(store, journal):
    path, _ = journal
    grow_old(path, 1000)
    collection = Collection(store, Wish(keep_last=9))
    waste = collection.plan().waste
    os.utime(path)  # a stage opens it
    assert [why for _, why in collection.remove(waste)] == [IN_USE] and path.is_dir()


def test_a_pinned_journal_stays(store, journal):
    path, _ = journal
    with using(store, f"rows/{path.name}"):
        assert plan(store, Wish(keep_last=9, unused_for_s=0)).waste == []


def test_a_stage_that_opens_its_journal_touches_it(store, call_of):
    call = call_of()
    path = store.root / "rows" / rows_name("toy", call.components)
    path.mkdir()
    grow_old(path, 1000)
    run_stage(call, store)
    assert time.time() - path.stat().st_mtime < DAY_S


@pytest.fixture
def token_ids(either, tmp_path):
    """The token ids of a table that the artifact `prepare-1` has; they were last used 1000 days ago."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train.parquet").write_bytes(b"rows")
    as_artifact(tmp_path / "tables", either.root, "prepare-1")
    path = directory_of(either.root / "encoded", file_digest(tmp_path / "tables" / "train.parquet"))
    path.mkdir()
    (path / f"demonstrations-{'0' * 32}-{'1' * 64}.arrow").write_bytes(b"ids")
    (path / f".encoding-999999999-0a1b-demonstrations-{'0' * 32}-").write_bytes(b"half of the ids")
    grow_old(path, 1000)
    return path


def test_token_ids_go_when_nobody_has_used_them_for_the_time_that_the_user_set(either, token_ids):
    assert [entry.path for entry in plan(either, Wish(keep_last=9, unused_for_s=1001 * DAY_S)).recent] == [token_ids]
    assert collected(either, Wish(keep_last=9, unused_for_s=999 * DAY_S)) == ({f"encoded/{token_ids.name}"}, {})
    assert not token_ids.exists() and either.directory("prepare-1").exists()


def test_token_ids_of_a_table_that_a_running_process_reads_stay(either, token_ids, artifact):
    with using(either, "prepare-1"):
        assert collected(either, Wish(keep_last=9, unused_for_s=0)) == (set(), {}) and token_ids in [
            entry.path for entry in plan(either).in_use
        ]
    with using(either, artifact("init-1")):
        assert collected(either, Wish(keep_last=9, unused_for_s=0)) == ({f"encoded/{token_ids.name}"}, {})


def test_token_ids_that_came_into_use_since_the_question_stay(either, token_ids):
    collection = Collection(either, Wish(keep_last=9, unused_for_s=0))
    waste = collection.plan().waste
    with using(either, "prepare-1"):
        assert [why for _, why in collection.remove(waste)] == [IN_USE]
    os.utime(token_ids)  # a stage has opened them, and has ended
    assert [why for _, why in collection.remove(waste)] == [IN_USE] and token_ids.is_dir()


def test_a_folder_of_token_ids_with_anything_else_in_it_is_left_alone(either, token_ids):
    (token_ids / "mine.txt").write_text("mine")
    assert collected(either, Wish(keep_last=9, unused_for_s=0)) == (set(), {}) and (token_ids / "mine.txt").exists()


def test_logs_and_notes_of_runs_go_by_their_age_unless_a_kept_artifact_is_named(store, artifact):
    artifact("init-1")
    remember(store, "kept", {"init": "init-1"})
    remember(store, "gone", {"init": "init-9"})
    (store.root / "runs" / f"{SFT}.log").write_text("log")
    (store.root / "runs" / f"{SFT}@host-12-0123abcd-node-1.log").write_text("log")
    wish = Wish(("init-1",), 0)
    assert plan(store, wish).waste == [] and len(plan(store, wish).recent) == 3
    grow_old(store.root / "runs", 31)
    assert len(collected(store, wish)[0]) == 3 and len(list((store.root / "runs").iterdir())) == 1


def test_records_of_runs_go_by_their_age_unless_a_kept_artifact_is_named_or_the_run_goes_on(store, artifact):
    artifact("init-1")
    record_run(store, {"init": store.manifest("init-1")}, "kept")
    record_run(store, {"init": ArtifactRef(kind="checkpoint", key="init-9", digest="d")}, "gone")
    wish = Wish(("init-1",), 0)
    assert plan(store, wish).waste == [] and len(plan(store, wish).recent) == 1
    grow_old(store.root / "runs", 31)
    with using(store) as pins, recording(store, Asked(name="goes on"), pins):
        collected(store, Wish(("init-1",), 0, unused_for_s=0))
        assert [run.asked.name for run in records(store)] == ["goes on", "kept"]


def test_a_note_that_is_written_again_in_the_instant_of_its_removal_is_put_back(store, monkeypatch):
    remember(store, "recipe", {"init": "init-9"})
    (note,) = (store.root / "runs").iterdir()
    grow_old(note, 31)
    collection = Collection(store, Wish())
    waste, rename = collection.plan().waste, os.rename

    def write_then_rename(source, target):
        os.utime(source)
        rename(source, target)

    monkeypatch.setattr(gc.os, "rename", write_then_rename)
    assert [why for _, why in collection.remove(waste)] == [IN_USE] and note.is_file()


# Races.


def test_two_gc_at_once_remove_everything_once_and_fail_nowhere(either, artifact):
    for number in range(30):
        artifact(f"init-{number:02d}")
    told = FORK.Queue()

    def work():
        told.put(set(collected(ArtifactStore(either.root))[1].values()))

    processes = [FORK.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    assert all(why <= {IN_USE} for why in [told.get(timeout=60) for _ in processes]), (
        "at most another gc was at it just then"
    )
    for process in processes:
        process.join()
    assert not list((either.root / "artifacts").iterdir()) and not list((either.root / "quarantine").iterdir())


def test_whoever_pins_and_then_finds_an_artifact_keeps_it_beside_gc(store, artifact):
    """Readers pin, look and read in a loop, while the artifact is made again and gc runs without a pause."""
    ended, told, at_work = FORK.Event(), FORK.Queue(), FORK.Semaphore(0)

    def read():
        own, seen, lost = ArtifactStore(store.root), 0, 0
        while not ended.is_set():
            with using(own, "init-1"):
                if own.directory("init-1").is_dir():
                    seen += 1
                    if seen == 1:
                        at_work.release()
                    for _ in range(20):
                        lost += not (own.directory("init-1") / "payload" / "file").is_file()
        told.put((seen, lost))

    def collect():
        own, removed = ArtifactStore(store.root), 0
        while not ended.is_set():
            removed += len(collected(own)[0])
        told.put((removed, 0))

    processes = [FORK.Process(target=work) for work in (read, read, collect)]
    for process in processes:
        process.start()
    staged, end, waits_for = store.root / "staging" / "made", time.monotonic() + 4, 2  # readers, on a busy machine
    while time.monotonic() < end or (waits_for and time.monotonic() < end + 60):
        waits_for -= waits_for and at_work.acquire(block=False)
        if not store.directory("init-1").exists():
            artifact("init-2")
            try:
                os.rename(store.directory("init-2"), staged)
            except FileNotFoundError:
                continue  # gc was faster: nobody has pinned it yet
            content = json.loads((staged / "manifest.json").read_text())
            (staged / "manifest.json").write_text(
                manifest_text(Manifest.model_validate({**content, "key": "init-1", "seal": ""}))
            )
            os.rename(staged, store.directory("init-1"))
        time.sleep(0.01)
    ended.set()
    counts = [told.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(lost for _, lost in counts) == 0 and all(count for count, _ in counts), counts


# Whole processes.

RUN = """
import sys
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.stage import run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore
run_stage(StageCall.model_validate_json(sys.argv[1]), ArtifactStore())
"""


def start(call):
    """A process that runs a stage, with the stage's own process below it."""
    return subprocess.Popen([sys.executable, "-c", RUN, call.model_dump_json()])


def command(*arguments):
    return [sys.executable, "-u", "-m", "alignflow", "gc", "--keep-last", "0", *arguments]


def test_the_command_leaves_what_a_running_stage_reads_and_takes_it_once_the_stage_is_dead(store, call_of, tmp_path):
    source, _ = run_stage(call_of(text="source"), store)
    call, log = call_of(text="waits", act="wait", source=source, log=str(tmp_path / "log")), tmp_path / "log"
    process = start(call)
    wait_until(lambda: log.exists() and log.read_text())
    beside = subprocess.run(command("--yes"), capture_output=True, text=True)
    stayed = store.directory(source.key).is_dir(), (store.root / "staging" / call.key).is_dir()
    process.kill()
    process.wait()
    assert beside.returncode == 0 and stayed == (True, True), beside.stdout
    wait_until(
        lambda: (
            subprocess.run(command("--yes"), capture_output=True).returncode == 0
            and not store.directory(source.key).exists()
        )
    )


def test_the_command_leaves_work_that_came_alive_between_its_question_and_the_answer(store, call_of, tmp_path):
    call, log = call_of(text="waits", act="wait", log=str(tmp_path / "log")), tmp_path / "log"
    (store.work(call.key) / "step-1").mkdir(parents=True)
    asking = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    asked = ""
    while "]: " not in asked:
        asked += (letter := asking.stdout.read(1))
        assert letter, asked
    process = start(call)
    wait_until(lambda: log.exists() and log.read_text())
    told, _ = asking.communicate("y\n", timeout=60)
    stayed = (store.work(call.key) / "step-1").is_dir()
    process.kill()
    process.wait()
    assert asking.returncode == 0 and stayed and f"stays: work/{call.key}" in told, told
