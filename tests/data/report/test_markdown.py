"""Whatever a model or a file says stays text: it can become no image, no link and no HTML."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from alignflow.data.printable import printable
from alignflow.data.report.markdown import escaped, fenced, table

HOSTILE = [
    "![x](http://evil.example/x.png)",
    "<img src=http://evil.example/x>",
    "[click](javascript:alert(1))",
    "http://evil.example",
    "www.evil.example",
    "a@evil.example",
    "mailto:a@b.c",
    "| a | b |",
    "# head",
    "```\n![x](http://evil/)\n```",
    "~~~\n<script>",
    "<!-- -->",
    "&lt;img&gt; &#60;img&#62;",
    "\n\n![x][1]\n\n[1]: http://evil.example",
    "$x$ **bold** `code`",
    "````\n```",
    "HTTPS://EVIL.EXAMPLE",
]
PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak", "fence"}
texts = st.one_of(
    st.text(), st.lists(st.sampled_from([*HOSTILE, " ", "\n", "`", "\\", "!", "[", "]", "(", "<", "x"])).map("".join)
)


def tokens(markdown):
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    return [token for outer in parsed for token in (outer, *(outer.children or ()))]


@given(texts)
def test_escaped_text_renders_as_itself(text):
    found = tokens(f"x {escaped(text)} x")
    assert {token.type for token in found} <= PLAIN
    shown = "".join(token.content for token in found if token.type in ("text", "text_special"))
    assert (
        shown.replace("\u2060", "").split() == printable(" ".join(f"x {text} x".replace("\u2060", "").split())).split()
    )
    assert not re.search(r"(?i)(https?|ftp)://|www\.[a-z]|\w@\w", shown), (
        "a reader that finds addresses by itself finds none"
    )


@given(texts)
def test_a_fence_holds_whatever_is_in_it(text):
    (fence, after, *_), *_ = [tokens(f"{fenced(text)}\n\nafter")]
    assert fence.type == "fence" and after.type == "paragraph_open"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_cannot_break_its_table(text):
    found = tokens(table(["a", "b"], [[escaped(text), "2"]]))
    assert sum(token.type == "td_open" for token in found) == 2
    assert not {token.type for token in found} & {"image", "link_open", "html_inline", "html_block"}
