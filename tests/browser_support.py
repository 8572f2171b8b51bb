"""A browser on the server's pages: where its requests go is recorded, and pictures for the docs are taken on demand."""

import io
import os
import re
import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

from system_support import REPOSITORY, missing

WIDTH, HEIGHT = 1280, 800
PATIENCE_MS = 120_000
"""For what takes a second on a quiet machine."""
IMAGES = REPOSITORY / "docs" / "images"
TAKE_PICTURES = "ALIGNFLOW_SCREENSHOTS"
"""Set in the environment, has the tests write the pictures of the docs anew."""
COLOURS = 64


@contextmanager
def chromium():
    """Debian's Chromium, headless; the test is skipped or fails where there is none."""
    program = shutil.which("chromium") or missing("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=arguments)
        yield browser
        browser.close()


class Visitor:
    """A person at a browser, and a record of where the browser's requests went.

    Attributes:
        reached: Hosts whose answers or connections the browser asked for.
        left: Requests to other hosts that passed the content security policy; they are stopped here, and never sent.
        blocked: What the policy stopped before it became a request.
    """

    def __init__(self, browser, url):
        self.url, self.host = url, urlsplit(url).netloc
        self.reached, self.left, self.blocked = set(), [], []
        self.context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, base_url=url)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("request", lambda request: self.reached.add(urlsplit(request.url).netloc))
        self.context.on("console", self._console)
        self.context.route(self._is_elsewhere, self._stop)
        self.page = self.context.new_page()
        self.page.on("websocket", lambda socket: self.reached.add(urlsplit(socket.url).netloc))

    def _is_elsewhere(self, url):
        return urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != self.host

    def _stop(self, route):
        self.left.append(route.request.url)
        route.abort()

    def _console(self, message):
        if "Content Security Policy" in message.text and (found := re.search(r"'(https?://[^']+)'", message.text)):
            self.blocked.append(found.group(1))

    def login(self, text):
        """Open the server's first page and log in."""
        self.page.goto("/")
        self.page.get_by_placeholder("admin:pass").fill(text)
        self.page.get_by_role("button", name="Login").click()

    def picture(self, name, height=HEIGHT):
        """Write docs/images/NAME.png, the page's upper `height` pixels, where the environment asks for it."""
        if os.environ.get(TAKE_PICTURES):
            from PIL import Image

            IMAGES.mkdir(exist_ok=True)
            self.page.set_viewport_size({"width": WIDTH, "height": height})
            taken = Image.open(io.BytesIO(self.page.screenshot(animations="disabled")))
            self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
            taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def open_form(visitor, deployment):
    """From the list of deployments to the form of one."""
    page = visitor.page
    page.goto(f"/v2/deployments?deployment={deployment}&limit=100")
    page.get_by_role("link", name=deployment, exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_text("Parameters", exact=True).wait_for()


def field(page, title):
    """The field of a form with this title."""
    return page.get_by_label(re.compile(rf"^(Select )?{re.escape(title)}( \(Optional\))?$"))


def submit(page):
    """Send the form; returns the id of the run that it started."""
    page.get_by_role("button", name="Submit").click()
    link = page.get_by_role("link", name="View run")
    link.wait_for()
    return link.get_attribute("href").rpartition("/")[2]


def logged_in(browser, server):
    """Somebody who has logged in to a server whose `login` is known."""
    made = Visitor(browser, server.url)
    made.login(server.login)
    made.page.wait_for_url("**/dashboard**")
    return made
