"""A fingerprint sees every change of what runs, wherever it stands, and nothing else."""

import pytest

from alignflow.tasks.keys.reach import Code, Definition

START = Definition("alignflow.start", "run")
SOURCES = {
    "__init__": "",
    "start": """
from alignflow import tools
from alignflow.passes import passed_on as renamed
from math import floor
LIMIT = 3
UNUSED = 4

def run(value: int = LIMIT) -> int:
    '''What it does.'''
    return tools.double(value) + renamed(value) + floor(value)

def other():
    return UNUSED
""",
    "tools": """
import functools
from alignflow.effects import nothing
TABLE = {}

class Base:
    number = 1

class Derived(Base):
    def method(self):
        return self.number

@functools.cache
def double(value):
    return Derived().method() * 2 * value + len(TABLE)

def unused():
    return TABLE
""",
    "passes": "from alignflow.inner import passed_on, unread\n",
    "inner": """
def passed_on(value):
    from alignflow.late import helper
    return helper(value)

def unread():
    return 1
""",
    "late": "def helper(value):\n    return value\n\ndef unused():\n    return 2\n",
    "effects": "import sys\nnothing = 0\nsys.setrecursionlimit(5000)\n",
}


@pytest.fixture
def digests(tmp_path):
    """A function from changed sources, `(module, old, new)`, to the digests of all that `START` reaches."""
    folder = tmp_path / "alignflow"
    folder.mkdir()

    def of(*changes):
        texts = dict(SOURCES)
        for module, old, new in changes:
            assert old in texts.get(module, old)
            texts[module] = texts[module].replace(old, new) if module in texts else new
        for module, text in texts.items():
            (folder / f"{module}.py").write_text(text)
        code = Code(root=tmp_path)
        return {str(node): digest for node in code.reached([START]) if (digest := code.digest(node))}

    return of


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("start", "+ renamed", "- renamed"),
        ("start", "LIMIT = 3", "LIMIT = 4"),  # a default value
        ("start", "from math import floor", "from math import ceil as floor"),  # what a name stands for
        ("tools", "* 2", "* 3"),  # an attribute of a module
        ("tools", "number = 1", "number = 2"),  # a base class
        ("tools", "return self.number", "return 0"),  # a method of a class that is made
        ("tools", "@functools.cache", "@functools.lru_cache(maxsize=1)"),
        ("tools", "TABLE = {}", "TABLE = {1: 2}"),
        ("tools", "def unused", "TABLE[1] = 2\n\ndef unused"),  # a statement with an effect
        ("tools", "def unused", "@register\ndef unused"),  # a decorator may register
        ("inner", "return helper(value)", "return helper(value) + 1"),  # through a module that only passes it on
        ("late", "return value", "return -value"),  # an import inside of a function
        ("effects", "5000", "6000"),  # an effect of a module of which nothing is used
    ],
)
def test_a_change_of_what_is_reached_is_seen(digests, module, old, new):
    before = digests()
    assert digests((module, old, new)) != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("start", "UNUSED = 4", "UNUSED = 5"),
        ("start", "return UNUSED", "return 0"),
        ("start", "What it does.", "Another docstring."),
        ("start", "value: int = LIMIT) -> int", "value: float = LIMIT) -> float"),
        ("start", "LIMIT = 3", "# why\nLIMIT    =   3"),
        ("tools", "def unused():\n    return TABLE", "def unused():\n    return None"),
        ("tools", "def unused", "class New:\n    number = 1\n\ndef unused"),
        ("inner", "return 1", "return 2"),
        ("late", "return 2", "return 3"),
        ("effects", "nothing = 0", "nothing = 0\nmore = 1"),
        ("new", "", "sys.exit(1)"),  # a module that nobody imports
    ],
)
def test_a_change_of_anything_else_is_not(digests, module, old, new):
    before = digests()
    assert digests((module, old, new)) == before


def test_a_module_that_is_used_as_a_value_counts_as_a_whole(digests):
    use = ("start", "tools.double(value)", "getattr(tools, value)(1)")
    before = digests(use)
    assert digests(use, ("tools", "def unused():", "def unused(x=1):")) != before


@pytest.mark.parametrize(
    "call", ["import_module('alignflow.late').helper(value)", "resolve('alignflow.late:helper')(value)"]
)
def test_a_definition_that_is_imported_by_its_address_is_reached(digests, call):
    use = [("start", "floor(value)", call), ("inner", "    from alignflow.late import helper\n", "")]
    before = digests(*use)
    assert digests(*use, ("late", "return value", "return -value")) != before
    assert digests(*use, ("late", "return 2", "return 3")) == before


CONFIG = """
from pydantic import Field
from alignflow.late import helper
class Config(Model):
    rate: Annotated[float, Check(helper)] = Field(default=0.1, description="Why.")
"""


@pytest.mark.parametrize(
    ("old", "new", "seen"), [("0.1", "0.2", True), ("float", "int", True), ("Why.", "Because.", False)]
)
def test_a_config_counts_with_its_types_and_without_its_descriptions(digests, old, new, seen):
    use = [
        ("start", "floor(value)", "config.Config()"),
        ("start", "LIMIT = 3", "LIMIT = 3\nfrom alignflow import config"),
    ]
    before = digests(*use, ("config", "", CONFIG))
    assert (digests(*use, ("config", "", CONFIG.replace(old, new))) != before) is seen


def test_what_the_annotation_of_a_config_names_is_reached(digests):
    use = [
        ("start", "floor(value)", "config.Config()"),
        ("start", "LIMIT = 3", "LIMIT = 3\nfrom alignflow import config"),
    ]
    found = digests(*use, ("config", "", CONFIG), ("inner", "    from alignflow.late import helper\n", ""))
    assert "alignflow.late:helper" in found, "pydantic runs it"


def test_a_file_that_a_definition_names_counts_by_its_bytes(digests, tmp_path):
    use = ("start", "floor(value)", "open('page.html.j2')")
    page = tmp_path / "alignflow" / "page.html.j2"
    page.write_text("one")
    before = digests(use)
    page.write_text("two")
    assert digests(use) != before


def test_a_changed_source_need_not_be_on_disk(digests, tmp_path):
    digests()
    changed = Code({"alignflow.tools": SOURCES["tools"].replace("* 2", "* 3")}, root=tmp_path)
    node = Definition("alignflow.tools", "double")
    assert node in changed.reached([START]) and changed.digest(node) != Code(root=tmp_path).digest(node)
