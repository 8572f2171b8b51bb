"""1,000 seeded recipes through what `plan` calls: each is taken with the values that stand in it, or refused in one message, never a traceback.

Every mutation says what has to come of it: `refused` (a person would call it nonsense), `taken`, or `either` (then whatever is
taken must hold what a recipe promises).
"""

import gc
import math
import random
import signal
import time
import warnings
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import AlignflowError
from alignflow.flows.calls import Caller, plan
from alignflow.tasks.store.artifact_store import ArtifactStore

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
COUNT, LIMIT_S = 1000, 10
SOURCES = ("demonstrations", "prompts", "evaluation", "general")
BAD_PATHS = ("", "  ", "/", "//", "~", "~nobody-of-this-name/x", "x" * 256, "./" + "y/" * 2500, "a\0b", "\ud800.jsonl")
BAD_CODE = (
    "json:NoSuchClass",
    "os:system",
    "sys:exit",
    "json:JSONDecoder",
    "string:ascii_letters",
    "nowhere_at_all:Judge",
    ":x",
    "x:",
    "a b:C",
    "subprocess:run",
    "builtins:eval",
    "./nowhere.py:Judge",
    "x" * 1000 + ":Judge",
)


class TooSlow(BaseException):
    """An input took longer than a person waits."""


def _ring(*_):
    raise TooSlow


def fields(config=Recipe, place=()):
    """Place, type without None, whether it may be None, and the field, of all plain fields of a recipe."""
    for name, field in config.model_fields.items():
        kinds = _kinds(field.annotation)
        nested = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if nested is not None and name not in ("labelling_judge", "lora"):
            yield from fields(nested, (*place, name))
        elif len(kinds) == 1 and kinds[0] in (int, float, bool, str):
            yield (*place, name), kinds[0], type(None) in get_args(field.annotation), field


def _kinds(annotation):
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for member in get_args(annotation) if member is not type(None) for kind in _kinds(member)]
    return [annotation]


FIELDS = list(fields())
NUMBERS = [found for found in FIELDS if found[1] in (int, float)]
WRONG = {
    int: [True, "1", "many", 1.5, [], {}, [1], "2024-01-01", 10**30, -(10**30), 2**63],
    float: [True, "0.1", "much", [], {}, [0.1], 1e300, -1e300, 10**400, 1e-300, -1e-300],
    bool: [1, 0, "true", "maybe", [], 0.0],
    str: [True, 5, 0.5, [], ["x"], {"a": 1}, "nul\0", "bell\a", "\x1b[31m", "\ud800"],
}


def put(content, place, value):
    for name in place[:-1]:
        content = content.setdefault(name, {}) if isinstance(content, dict) else content
    content[place[-1]] = value


def wrong_type(draw, content):
    place, kind, _, field = draw.choice(FIELDS)
    value = draw.choice(WRONG[kind])
    if place[-1] in ("minimum", "maximum"):
        value = "x"
    put(content, place, value)
    return "refused"


def out_of_bounds(draw, content):
    place, kind, _, field = draw.choice(NUMBERS)
    limits = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(part, name, None) is not None
    }
    side = draw.choice(sorted(limits))
    step = 1 if kind is int else abs(limits[side]) * 0.01 + 1e-6
    value = limits[side] + {"ge": -step, "gt": 0, "le": step, "lt": 0}[side]
    put(content, place, kind(value))
    return "refused"


def misspelt(draw, content):
    place, *_ = draw.choice(FIELDS)
    name = place[-1]
    at = draw.randrange(len(name))
    put(content, (*place[:-1], name[:at] + draw.choice("qxz_") + name[at:]), 1)
    return "refused"


def bad_path(draw, content):
    where = draw.choice([("model", "path"), ("replace", "reward"), ("replace", "sft"), ("data", draw.choice(SOURCES))])
    path = draw.choice(BAD_PATHS)
    put(content, where, [{"path": path}] if where[0] == "data" else path)
    return "refused"


def bad_code(draw, content):
    name = draw.choice(BAD_CODE)
    if draw.random() < 0.5:
        content["label"] = {"judge": {"name": name}}
    else:
        content["align"] = {
            "method": "ppo",
            "options": {"rewards": [{"name": "function", "options": {"function": name}}]},
        }
    return (
        "refused"
        if content.get("label", {}).get("judge", {}).get("name") == name or name != "subprocess:run"
        else "either"
    )


def bad_options(draw, content):
    options = draw.choice(
        [
            {"temperature": "0.1"},
            {"temperature": 1e-300},
            {"temprature": 1},
            {"constitution": ""},
            {"constitution": 5},
            [],
            "x",
            5,
        ]
    )
    content["label"] = {"judge": {"name": "rubric", "options": options}}
    return "refused"


def section_of_another_kind(draw, content):
    content[draw.choice(["model", "data", "sft", "sample", "label", "align", "evaluate", "engine"])] = draw.choice(
        [5, "x", [], [{}], True, 0.5]
    )
    return "refused"


def in_bounds(draw, content):
    # A section `merge` asks for adapters, which this recipe does not train; `judge_eval` for labels of people, `select` for rounds.
    asking = ("merge", "judge_eval", "select")
    free = [found for found in NUMBERS if {"seed", "learning_rate"} & {*found[0]} and found[0][0] not in asking]
    place, kind, _, _ = draw.choice(free)
    put(content, place, draw.choice([0, 1, 2**63 - 1]) if kind is int else draw.choice([1, 1e-5, 3.0e-4]))
    return "taken"


STRUCTURES = (
    wrong_type,
    wrong_type,
    wrong_type,
    out_of_bounds,
    out_of_bounds,
    misspelt,
    bad_path,
    bad_path,
    bad_code,
    bad_options,
    section_of_another_kind,
    in_bounds,
    in_bounds,
)


def repeated_key(draw, text):
    lines = text.splitlines()
    at = draw.choice(
        [index for index, line in enumerate(lines) if ":" in line and not line.lstrip().startswith(("#", "-"))]
    )
    indent = len(lines[at]) - len(lines[at].lstrip())
    key = lines[at].split(":")[0].strip()
    end = next(
        (i for i in range(at + 1, len(lines)) if lines[i].strip() and len(lines[i]) - len(lines[i].lstrip()) <= indent),
        len(lines),
    )
    while (
        end < len(lines)
        and lines[end].lstrip().startswith("- ")
        and len(lines[end]) - len(lines[end].lstrip()) == indent
    ):
        end += 1
    return "\n".join([*lines[:end], f"{' ' * indent}{key}: 1", *lines[end:]]).encode(), "refused"


def no_yaml(draw, text):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    return draw.choice(
        [
            b"",
            b"- 1\n- 2\n",
            b"5",
            b"text",
            b"null",
            b"\xff\xfe" + text.encode("utf-16-le"),
            text.encode()[:40] + b"\xff" + text.encode()[40:],
            text.encode() + b"\x00",
            b"\tname: x\n" + text.encode(),
            ("x: " + "[" * draw.randrange(50, 3000)).encode(),
            bomb.encode(),
            text.encode() + b"\nsft: &x [*x]\n",
            text.encode() + b"\n!!python/object/apply:os.system [true]: 1\n",
            text.encode() + b"\nreport: !!python/name:os.system\n",
            b"x: " + b"9" * 5000,
            b'name: "\\ud800"',
            b"a: &a 1\nb: *c\n",
            b"1: 2\n",
            b"name: x\n---\nname: y\n",
            b"name: !!binary aGk=\n",
            b"%YAML 9.9.9\n",
            b"seed: .nan\n",
            b"seed: 1e999\n",
            b"? [a, b]\n: c\n",
            b"#" * 600_000,
            ("name: " + "x" * 1_000_000).encode(),
        ]
    ), "refused"


def damaged(draw, text):
    content = bytearray(text.encode())
    for _ in range(draw.randrange(1, 4)):
        content[draw.randrange(len(content))] = draw.choice([draw.randrange(256), *b":{}[]\"' \n#&*!|>%@,-"])
    return bytes(content), "either"


def shuffled_lines(draw, text):
    lines = text.splitlines()
    for _ in range(draw.randrange(1, 5)):
        first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
        lines[first], lines[second] = lines[second], lines[first]
    del lines[draw.randrange(len(lines))]
    return "\n".join(lines).encode(), "either"


def written_otherwise(draw, text):
    return draw.choice(
        [
            b"\xef\xbb\xbf" + text.encode(),
            text.replace("\n", "\r\n").encode(),
            text.replace("1.0e-4", "1e-4").encode(),
            (text + "\n...\n").encode(),
            text.replace("sft: {", "sft: &base {").encode(),
            ("---\n" + text).encode(),
        ]
    ), "taken"


TEXTS = (repeated_key, repeated_key, no_yaml, no_yaml, damaged, damaged, shuffled_lines, written_otherwise)


def nonsense_settings(draw):
    name = draw.choice(
        [
            "a..b",
            ".",
            "",
            "a." * 500 + "b",
            "data.prompts.99.path",
            "evaluate.evaluators.x",
            "align.beta.x.y",
            "²",
            "x" * 5000,
        ]
    )
    return [
        draw.choice(
            [
                f"{name}={draw.choice(['1', '', '[', '{a: 1, a: 2}', '!!python/name:os.system'])}",
                "align.beta",
                "=",
                'align.beta="0.1"',
            ]
        )
    ]


def promises(value, kind=None):
    """What a recipe that was taken holds: finite numbers of the declared types, within bounds, and text that can be written."""
    for name, field in type(value).model_fields.items():
        found = getattr(value, name)
        for item in found if isinstance(found, tuple) else (found,):
            if isinstance(item, BaseModel):
                promises(item)
            elif isinstance(item, float):
                assert math.isfinite(item) and (item == 0 or 1e-12 <= abs(item) <= 1e30), (name, item)
            elif isinstance(item, int):
                assert isinstance(item, bool) or abs(item) < 2**63, (name, item)
            elif isinstance(item, str):
                item.encode()
                assert "\0" not in item
        if kinds := [kind for kind in _kinds(field.annotation) if kind in (int, float, bool, str)]:
            assert found is None or isinstance(found, tuple) or type(found) in kinds, (name, found)
        if get_origin(field.annotation) is Literal:
            assert any(found == choice and type(found) is type(choice) for choice in get_args(field.annotation))


def look(path, settings, store, whole):
    """What `plan` does with a recipe; the paths of one that was changed at random are not asked of the Hub."""
    recipe = load_recipe(path, settings)
    promises(recipe)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    Caller(recipe, store)
    named = [source.path for kind in SOURCES for source in getattr(recipe.data, kind)]
    if whole and recipe.model.path is None and all(Path(name).is_file() for name in named):
        plan(recipe, store)


def make(draw, number, text):
    """One input: bytes of a recipe, settings, and what has to come of it."""
    if number % 10 == 9:
        return text.encode(), nonsense_settings(draw), "refused"
    if number % 2:
        content, wanted = draw.choice(TEXTS)(draw, text)
        return content, [], wanted
    content = yaml.safe_load(text)
    wanted = draw.choice(STRUCTURES)(draw, content)
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"), [], wanted


def test_a_thousand_recipes_are_taken_as_they_read_or_refused_in_one_message(repository, tmp_path):
    text = (repository / "recipes" / "tiny.yaml").read_text().replace("../examples", str(repository / "examples"))
    store, path = ArtifactStore(tmp_path / "store"), tmp_path / "recipe.yaml"
    before = sorted(place for place in (tmp_path / "store").rglob("*"))
    counts = {"refused": 0, "taken": 0}
    signal.signal(signal.SIGPROF, _ring)
    gc.collect()
    gc.freeze()  # what earlier tests left open must not be found, and warned of, in the middle of an input of ours
    for number in range(COUNT):
        draw = random.Random(11_000 + number)
        content, settings, wanted = make(draw, number, text)
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # seconds of this process, however busy the machine is
        started = time.monotonic()
        try:
            with warnings.catch_warnings(record=True) as leaked:
                warnings.simplefilter("always")
                look(path, settings, store, whole=number % 5 == 0)
            outcome, message = "taken", ""
        except AlignflowError as error:
            assert error.exit_status == 2, (number, error)
            outcome, message = "refused", str(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        case = (number, wanted, settings, content[:3000], message[:500], time.monotonic() - started)
        assert outcome == wanted or wanted == "either", case
        assert not [warning for warning in leaked if not issubclass(warning.category, DeprecationWarning)], (
            case,
            leaked,
        )
        if message:
            assert len(message) < 2500 and "Traceback" not in message and max(map(len, message.split())) < 800, case
        counts[outcome] += 1
    assert counts["refused"] > 500 and counts["taken"] > 100, counts
    assert not list((store.root / "artifacts").iterdir()) and len(before) <= len(list(store.root.rglob("*")))
