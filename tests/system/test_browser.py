"""The server's pages as a person uses them, in Chromium: the login, forms, a rerun of one stage, what a run shows, Cancel.

One server for the file, on a copy of the finished tiny run. The tests follow each other as a visit would. With
ALIGNFLOW_SCREENSHOTS=1 they write the pictures of the docs anew.
"""

import json
import re
import time
from urllib.parse import urlsplit

import pytest
from browser_support import PATIENCE_MS, Visitor, chromium, field, logged_in, open_form, submit
from server_support import Server, give_history
from system_support import REPOSITORY, TINY
from waiting import wait_until

from alignflow.flows.deployments import DEPLOYMENTS
from alignflow.server import processes
from alignflow.tasks.store.artifact_store import ArtifactStore

RECIPE = str(REPOSITORY / TINY)
GATE = "gates=[{stage: label, metric: ties, maximum: 0.01, action: warn}]"
ASK = "gates=[{stage: reward, metric: eval_accuracy, minimum: 2, action: ask}]"
EVIL = "evil.example"
PROMPTS = [
    f"Say {word} to [it](https://{EVIL}/a) ![](https://{EVIL}/b.png) <img src=//{EVIL}/c>"
    for word in ("hello", "no", "thanks", "more")
]
FOREVER = 200_000
RUNS_S = 300


@pytest.fixture(scope="module")
def server(finished, tmp_path_factory, history):
    """A server on a copy of the finished run; `login` is what `alignflow status --login` prints."""
    made = Server(tmp_path_factory.mktemp("visited"))
    finished.copy(made.home.store)
    give_history(made.home.store, history)
    try:
        made("up", "--port", made.port)
        made.login = re.search(r"alignflow:\S+", made("status", "--login")).group()
        yield made
    finally:
        made("down")


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def visitor(server, browser):
    """Somebody who has logged in."""
    return logged_in(browser, server)


@pytest.fixture(scope="module")
def expect():
    """Playwright's assertions, with patience for a machine that has other work."""
    from playwright.sync_api import expect as found

    found.set_options(timeout=PATIENCE_MS)
    return found


def page_of(server, run, start):
    """The address of the newest artifact page of a run whose key starts so."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}, "sort": "CREATED_DESC"}
    found = [made["id"] for made in server.api.post("/artifacts/filter", wanted) if made["key"].startswith(start)]
    return f"/v2/artifacts/artifact/{found[0]}" if found else ""


@pytest.fixture(scope="module")
def rerun(server, visitor, expect):
    """A run of `align` with another sft_coefficient and a gate, started from its form: its id."""
    page = visitor.page
    open_form(visitor, "align")
    field(page, "recipe").fill(RECIPE)
    field(page, "sft_coefficient").fill("0.3")
    page.get_by_role("button", name="Add item").click()
    page.get_by_text("No items in this list").wait_for(state="detached")
    page.locator("textarea").nth(1).fill(GATE)
    return submit(page)


@pytest.fixture(scope="module")
def labelled(server, visitor):
    """A run of `rlaif-data` on prompts that try to be links and images, started from its form: its id."""
    page, prompts = visitor.page, server.folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    (sft,) = (server.home.store / "artifacts").glob("sft-*")
    open_form(visitor, "rlaif-data")
    for title, value in {
        "prompts": str(prompts),
        "model": sft.name[:16],
        "sample.n": "2",
        "sample.max_new_tokens": "8",
        "data.max_prompt_length": "150",
        "sample.max_prompt_length": "150",
    }.items():
        field(page, title).fill(value)
    return submit(page)


def test_one_logs_in_with_what_up_printed(server, browser, expect):
    stranger = Visitor(browser, server.url)
    stranger.login("alignflow:wrong")
    expect(stranger.page.get_by_text("Invalid credentials")).to_be_visible()
    stranger.login(server.login)
    expect(stranger.page).to_have_url(re.compile("/dashboard"))
    stranger.context.close()


def test_every_deployment_is_listed(visitor, expect):
    visitor.page.goto("/v2/deployments?limit=100")
    for name in DEPLOYMENTS:
        expect(visitor.page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    visitor.picture("deployments")


def test_the_form_has_typed_fields_and_refuses_a_wrong_value_before_there_is_a_run(server, visitor, expect):
    page = visitor.page
    open_form(visitor, "align")
    for title, meaning in {
        "method": "A name of `alignflow methods`",
        "sft_coefficient": "Weight of the NLL per token",
    }.items():
        expect(field(page, title)).to_be_visible()
        expect(page.get_by_text(meaning)).to_be_visible()
    expect(field(page, "sft_coefficient")).to_have_attribute("type", "number")
    visitor.picture("form")
    field(page, "method").click()
    expect(page.get_by_role("option", name="dpo", exact=True)).to_be_visible()
    expect(page.get_by_role("option", name="ppo", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    before = server.api.post("/flow_runs/count", {})
    field(page, "recipe").fill(RECIPE)
    field(page, "sft_coefficient").fill("-1")  # 0 itself is allowed: the browser refuses it
    page.get_by_role("button", name="Submit").click()
    assert "greater than or equal to 0" in field(page, "sft_coefficient").evaluate("box => box.validationMessage")
    field(page, "sft_coefficient").fill("0.3")
    field(page, "learning_rate").fill("-1")  # 0 is not allowed, which a number box cannot say: the server refuses it
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("-1 is less than or equal to the minimum of 0").first).to_be_visible()
    assert server.api.post("/flow_runs/count", {}) == before


def test_a_stage_runs_alone_from_its_form_and_what_is_before_it_is_cached(server, visitor, rerun, labelled, expect):
    page = visitor.page
    assert server.ended(rerun, RUNS_S)["type"] == "COMPLETED"
    page.goto(f"/v2/runs/flow-run/{rerun}")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    page.get_by_role("tab", name="Task Runs").click()
    expect(page.get_by_text("(1 Completed, 6 Cached)")).to_be_visible()
    for step in ("init", "prepare", "sft", "sample", "label", "reference"):
        expect(page.get_by_role("link", name=re.compile(rf"^{step} \w+ cached$"))).to_be_visible()
    expect(page.get_by_role("link", name=re.compile(r"^align \w+$"))).to_be_visible()


def test_the_overview_has_each_step_and_the_verdicts_of_gates(server, visitor, rerun, expect):
    page = visitor.page
    page.goto(page_of(server, rerun, "tiny-align-overview"))
    expect(page.get_by_role("cell", name="cached").first).to_be_visible()
    gate = page.get_by_role("row").filter(has_text="label.ties")
    expect(gate).to_contain_text("warned")
    expect(gate).to_contain_text("at most 0.01")
    visitor.picture("overview", 1200)
    page.get_by_role("link", name=re.compile("^align")).first.click()
    expect(page.get_by_role("heading", name="align", exact=True)).to_be_visible()


def test_the_page_of_a_stage_has_a_plot_and_the_progress_is_a_bar_that_is_full(server, visitor, rerun, expect):
    page = visitor.page
    page.goto(page_of(server, rerun, "align-"))
    plot = page.locator("main img").first
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.complete && image.naturalWidth") > 300
    expect(page.get_by_role("cell", name="sft_coefficient", exact=True)).to_be_visible()
    visitor.picture("stage", 1500)
    page.goto(page_of(server, rerun, "tiny-align-progress"))
    expect(page.get_by_text("Progress: 100%")).to_be_visible()


def test_what_models_and_data_say_is_text(server, visitor, labelled, expect):
    page = visitor.page
    assert server.ended(labelled, RUNS_S)["type"] == "COMPLETED"
    for start in ("sample-", "label-", "prompts-by-rubric-sample-samples", "prompts-by-rubric-label-statistics"):
        page.goto(page_of(server, labelled, start))
        expect(
            page.get_by_text(EVIL if start != "prompts-by-rubric-label-statistics" else "judged").first
        ).to_be_visible()
        for place in ("a[href", "img[src", "iframe[src"):
            expect(page.locator(f"{place}*='{EVIL}']")).to_have_count(0)


def test_a_run_is_submitted_and_its_gate_answered_from_a_shell(server):
    said = server("submit", RECIPE, "--set", ASK, "--name", "from a shell", "--watch", status=3)
    run = re.search(r"^id  (\S+)$", said, re.MULTILINE).group(1)
    (waits,) = json.loads(server("status", "--json"))["waiting"]
    assert (waits["run"], waits["id"], waits["gate"]) == ("from a shell", run, "reward.eval_accuracy")
    assert "should be at least 2" in waits["question"]
    server(*waits["answer"].split()[1:], "--who", "Ann")
    assert server.ended(run, RUNS_S)["type"] == "COMPLETED"
    assert "for a person" not in server("status") and "approved by Ann" in server("lineage", "reward")
    lines = server("runs").splitlines()
    (at,) = [at for at, line in enumerate(lines) if "gates.0.metric=eval_accuracy" in line]
    assert "cached" in "".join(lines[at - 1 : at + 1]), (
        "a run that was suspended is shown once; its settings may stand below it"
    )
    assert "gates.0.metric" in (server.home.store / "dashboard.html").read_text()


def test_a_schedule_is_paused_and_resumed_on_its_page(server, visitor, expect):
    server("schedule", "add", "pipeline", "--recipe", RECIPE, "--cron", "0 2 * * *", "--name", "nightly")
    page = visitor.page
    page.goto("/v2/deployments?limit=100")
    page.get_by_role("link", name="nightly", exact=True).click()
    switch = page.get_by_role("switch", name="toggle At 02:00 AM")
    expect(switch).to_be_checked()
    visitor.picture("schedule")
    switch.click()
    expect(switch).not_to_be_checked()
    assert "paused" in server("schedule", "list")
    switch.click()
    expect(switch).to_be_checked()
    assert "paused" not in server("schedule", "list")
    server("schedule", "remove", "nightly")


def test_a_training_is_changed_by_the_link_of_its_page_and_cancelled_without_a_trace(
    server, visitor, rerun, labelled, expect
):
    """30 s after Cancel none of the run's processes is left, and nothing is locked."""
    page, store = visitor.page, ArtifactStore(server.home.store)
    page.goto(page_of(server, rerun, "align-"))
    page.get_by_role("link", name="Run align again with these parameters").click()
    expect(field(page, "sft_coefficient")).to_have_value("0.3")
    expect(field(page, "recipe")).to_have_value(RECIPE)
    before = set(processes.marked(server.home))
    field(page, "max_steps").fill(str(FOREVER))
    run = submit(page)
    wait_until(lambda: page_of(server, run, "tiny-align-progress"), RUNS_S)
    page.goto(f"/v2/runs/flow-run/{run}")
    page.get_by_role("tab", name="Artifacts").click()
    expect(
        page.get_by_text(re.compile(rf"align: \d+/{FOREVER} steps, loss .*tokens/s"))
    ).to_be_visible()  # without the time left at first
    (key,) = {spec.parent.name for spec in (server.home.store / "staging").glob("align-*/spec.json")}
    assert store.is_locked(key) and len(set(processes.marked(server.home)) - before) >= 3, (
        "the flow, a supervisor, the training"
    )
    visitor.picture("running", 900)
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Cancel").click()
    clicked = time.monotonic()
    page.get_by_role("alertdialog").get_by_role("button", name="Cancel Flow Run").click()
    wait_until(lambda: not set(processes.marked(server.home)) - before, 30)
    wait_until(lambda: not store.is_locked(key), 30 - (time.monotonic() - clicked))
    expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
    assert server.ended(run)["type"] == "CANCELLED"


def test_no_request_left_for_another_host(server, visitor, browser, rerun, labelled):
    """Counted over the whole visit: what passed the policy is what would have left; what it blocked never became a request."""
    assert visitor.left == []
    assert visitor.reached - {""} == {urlsplit(server.url).netloc}
    assert {urlsplit(url).netloc for url in visitor.blocked} <= {"sr-client-cfg.amplitude.com"}, (
        "only Prefect's own telemetry tried"
    )
    visitor.page.evaluate("fetch('https://elsewhere.invalid/').catch(() => 0)")
    assert visitor.left == [] and "https://elsewhere.invalid/" in visitor.blocked, (
        "the policy stops what a script would send"
    )
    unprotected = Visitor(browser, server.url)  # a page without the policy: the record does see what leaves
    unprotected.page.set_content("<img src='https://elsewhere.invalid/x.png'>")
    assert unprotected.left == ["https://elsewhere.invalid/x.png"]
