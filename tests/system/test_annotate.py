"""People label pairs in Chromium with the keyboard: closed half-way, killed, resumed, exported, mixed with a judge's labels, and learnt from."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from browser_support import PATIENCE_MS, chromium
from system_support import REPOSITORY, TINY
from waiting import wait_until

from alignflow.data.annotation.answers import read_answers, standing
from alignflow.data.annotation.pairs import read_pairs

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
EVIL = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
PICTURES = "ALIGNFLOW_ANNOTATE_PICTURES"
"""Set to a folder in the environment, has the tests leave pictures of the page there."""
PAIRS = 20
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Page:
    """The command with its page, and a browser on it."""

    def __init__(self, browser, directory, *arguments, store=None, annotator="anna", **context):
        environment = {**os.environ, "COLUMNS": "200"} | ({"ALIGNFLOW_HOME": str(store)} if store else {})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "alignflow", "annotate", str(directory), "--annotator", annotator, *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        lines = iter(self.process.stdout.readline, "")
        self.url = next((line.strip() for line in lines if line.startswith("http://127.0.0.1:")), "")
        assert self.url, "the command printed no address"
        self.context = browser.new_context(viewport=WIDE, **context)
        self.context.set_default_timeout(PATIENCE_MS)
        self.elsewhere = []
        self.context.on(
            "request", lambda request: self.elsewhere.append(request.url) if not self._is_own(request.url) else None
        )
        self.page = self.context.new_page()
        self.page.goto(self.url)
        self._count().not_to_be_empty(timeout=PATIENCE_MS)

    def _count(self):
        """What the page says how many are labelled. Its policy lets no test evaluate JavaScript again and again."""
        from playwright.sync_api import expect

        return expect(self.page.locator("#count"))

    def _is_own(self, url):
        return url.startswith(self.url)

    def count(self):
        return self.page.locator("#count").text_content()

    def press(self, key, count):
        """Press a key, and wait until the page says how many pairs are labelled."""
        self.page.keyboard.press(key)
        self._count().to_have_text(count, timeout=PATIENCE_MS)

    def answers(self):
        return [self.page.locator(f"#{side}").text_content() for side in ("first", "second")]

    def picture(self, name):
        if folder := os.environ.get(PICTURES):
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))

    def end(self, number=signal.SIGINT):
        self.context.close()
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def test_twenty_pairs_are_labelled_resumed_exported_mixed_and_learnt_from(browser, copy, tmp_path):
    directory, labels = tmp_path / "labels", tmp_path / "labels.jsonl"
    first = Page(browser, directory, "--data", "sample", "--max-pairs", str(PAIRS), store=copy.store)
    keys = ["1", "b", "0", "a", "2", "t", "s", "1", "1", "2"]
    for done, key in enumerate(keys, 1):
        first.press(key, f"{done} of {PAIRS}")
    first.press("u", f"{len(keys) - 1} of {PAIRS}")
    first.press("n", f"{len(keys) - 1} of {PAIRS}")
    first.page.keyboard.type("1 is longer, 2 is better")
    first.page.keyboard.press("Escape")
    first.press("2", f"{len(keys)} of {PAIRS}")
    assert first.elsewhere == []
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    again = Page(browser, directory, store=copy.store)
    assert again.count() == f"{len(keys)} of {PAIRS}"
    for done in range(len(keys) + 1, PAIRS + 1):
        again.press("1" if done % 2 else "2", f"{done} of {PAIRS}")
    assert again.page.locator("#end").is_visible() and not again.page.locator("#answers").is_visible()
    assert again.end() == 0
    given = standing(read_answers(directory, "anna"))
    assert len(given) == PAIRS and [answer.note for answer in given.values()].count("1 is longer, 2 is better") == 1
    assert {answer.left for answer in given.values()} == {"a", "b"}

    assert "19 pairs with 19 votes" in copy("annotate", directory, "--export", labels)
    ties = sum(answer.preference == "tie" for answer in given.values())
    source = f"data.preferences=[{{path: {labels}, licence: CC0-1.0}}]"
    mixed = ("--set", source, "--set", "label.mix=override", "--set", "label.given_weight=2.0")
    output = copy("run", TINY, *mixed, "--set", "evaluate=null", "--set", "report=null", "--set", "reward=null")
    assert "given pairs and" in output
    check_mix(copy, 19 - ties)
    judged = next(
        each["key"]
        for path in (copy.store / "artifacts").glob("label-*/manifest.json")
        if "preferences" not in (each := json.loads(path.read_text()))["inputs"]
    )
    figures = json.loads(copy("annotate", directory, "--report", "--json", "--with", judged))
    assert figures["labellers"]["anna"] == 19 and figures["labellers"]["rubric"] > 0
    assert any(two["labellers"] == ["anna", "rubric"] and two["items"] > 0 for two in figures["pairs"])


def check_mix(copy, people):
    """The newest preferences hold rows of people and of the judge, and the alignment learnt from them."""
    manifests = [json.loads(path.read_text()) for path in (copy.store / "artifacts").glob("*/manifest.json")]
    aligned = max((each for each in manifests if each["stage"] == "align"), key=lambda each: each["created"])
    key = next(
        each["inputs"]["preferences"]["key"]
        for each in manifests
        if each["key"] == aligned["inputs"]["reference"]["key"]
    )
    payload = copy.store / "artifacts" / key / "payload"
    statistics = json.loads((payload / "statistics.json").read_text())
    rows = [
        row
        for side in ("train", "heldout")
        for row in pq.read_table(payload / "preferences" / f"{side}.parquet").to_pylist()
    ]
    labellers = Counter(row["judge"] for row in rows)
    assert labellers == Counter(statistics["labellers"]) and labellers["rubric"] > 0
    assert 0 < labellers["human:anna"] == statistics["mixed"]["given"] <= people
    assert {row["weight"] for row in rows if row["judge"] == "human:anna"} == {2.0}
    assert statistics["human_agreement"]["pairs"] > 0
    assert "human:anna" in (payload / "README.md").read_text() and aligned["metrics"]["loss"] is not None


@pytest.mark.parametrize(("name", "size"), [("wide", WIDE), ("narrow", NARROW)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_no_text_of_the_data_becomes_code(name, size, scheme, browser, tmp_path):
    prompt = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": f"Compare these two rivers. {'Rhine' * 60} {EVIL}"},
    ]
    answers = [
        f"The Rhine is long.\n\n{'W' * 400}\n\n{EVIL}",
        "    indented\n" * 40 + "![x](http://evil.example/x.png)",
    ]
    data = tmp_path / "data.jsonl"
    data.write_text(
        "".join(
            json.dumps(
                {
                    "prompt": [*prompt[:1], {**prompt[1], "content": f"{n} {prompt[1]['content']}"}],
                    "completions": answers,
                }
            )
            + "\n"
            for n in range(3)
        )
    )
    shown = Page(browser, tmp_path / name, "--data", str(data), color_scheme=scheme)
    shown.page.set_viewport_size(size)
    shown.press("1", "1 of 3")
    shown.press("n", "1 of 3")
    assert shown.page.evaluate(OVERFLOW) <= 0
    assert sorted(shown.answers()) == sorted(answers) and shown.page.title() == "Which answer is better?"
    assert shown.elsewhere == []
    for button in shown.page.locator("footer button").all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"] and box["y"] + box["height"] <= size["height"]
    colour = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) < 200) == (scheme == "dark")
    shown.picture(f"{name}-{scheme}")
    shown.end()


def test_two_annotators_have_orders_of_their_own_and_their_agreement_is_told(browser, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"q{n}", "completions": ["good", "bad"]}) + "\n" for n in range(8)))
    seen = {}
    for annotator in ("anna", "ben"):
        shown = Page(browser, tmp_path / "two", "--data", str(data), annotator=annotator)
        seen[annotator] = []
        for done in range(1, 9):
            seen[annotator].append((shown.page.locator("#prompt").text_content(), shown.answers()[0]))
            wrong = annotator == "ben" and done == 1
            is_first = (shown.answers()[0] == "good") != wrong
            shown.press("1" if is_first else "2", f"{done} of 8")
        shown.end()
    assert seen["anna"] != seen["ben"] and sorted(prompt for prompt, _ in seen["anna"]) == sorted(
        p for p, _ in seen["ben"]
    )
    assert len(read_pairs(tmp_path / "two")) == 8
    report = [sys.executable, "-m", "alignflow", "annotate", str(tmp_path / "two"), "--report"]
    told = subprocess.run(report, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}).stdout
    assert "anna / ben" in told and "87.5%" in told and "Krippendorff's alpha over 8 pairs" in told


def test_a_page_left_open_says_that_an_answer_was_not_kept(browser, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"prompt": "q", "completions": ["good", "bad"]}) + "\n")
    shown = Page(browser, tmp_path / "left", "--data", str(data))
    shown.process.kill()
    shown.process.wait()
    shown.page.keyboard.press("1")
    wait_until(lambda: "Not kept" in (shown.page.locator("#said").text_content() or ""))
    shown.context.close()
    assert not read_answers(tmp_path / "left", "anna")
