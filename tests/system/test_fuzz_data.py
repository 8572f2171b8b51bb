"""1,000 seeded data files through reading and `prepare`'s parsing: a bad file is one message, a bad row is dropped and counted, a good row is kept.

Each row of a file carries a mark in its prompt. A row that was made good must be kept, one that was made bad must not, unless
the bytes of the file were damaged afterwards; then whatever is kept must still be what later stages take for granted.
"""

import csv
import gc
import gzip
import io
import json
import math
import random
import signal
import time
import warnings
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import AlignflowError
from alignflow.data.near_duplicates import near_duplicates
from alignflow.data.parsing import parse_sources
from alignflow.data.records import read_table, write_table
from alignflow.data.row_texts import row_text
from alignflow.data.sources.corpus import iter_corpus_texts
from alignflow.data.sources.detect import kinds_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
COUNT, LIMIT_S = 1000, 10
GOOD_VALUES = {
    "margin": [0.5, 3, -2.5, None],
    "soft_label": [0, 0.5, 1, None],
    "score_chosen": [1.0, 10**20, None],
    "instructions": [None, '[{"id": "x:y", "kwargs": {}}]'],
    "chosen": ["a", "ünï 🎉", "[sic]", "x" * 3000],
    "completion": ["yes", "{}", "🎉"],
    "ended": [None],
}
BAD_VALUES = {
    "margin": [10**400, float("inf"), True, [], {"a": 1}, "much"],
    "soft_label": [1.7, -0.1, False, 10**400],
    "score_chosen": [float("-inf"), "x", True],
    "chosen": ["", "  ", None, 5, True, [], {}, "\ud800", "a\0b", "\u200b", [{"role": "assistant", "content": 5}]],
    "completion": ["", 7, False, "\udfff", "\u200b\u200d", {"a": {"b": 1}}],
    "chosen_ended": ["maybe", 2, 0.5],
    "instructions": [5, 0, True, "free text", "[", '{"id": 1}', '["x"]', '[{"id": 5}]', {"a": 1}],
    "instruction_id_list": ["abc", 5, [5], {"a": 1}],
    "prompt": ["", 5, [], [{"role": "wizard", "content": "x"}]],
}
FIELDS = {
    "preferences": ("prompt", "chosen", "margin", "soft_label", "score_chosen", "chosen_ended"),
    "demonstrations": ("prompt", "completion"),
    "prompts": ("prompt", "instructions", "instruction_id_list"),
}


class TooSlow(BaseException):
    """An input took longer than a person waits."""


def _ring(*_):
    raise TooSlow


def make_rows(draw, kind):
    """Rows of a table in TRL's columns, with the marks of the good and of the bad ones; bad ones are few, as in life."""
    rows, good, bad = [], [], []
    for number in range(draw.randrange(25, 45)):
        row = {"prompt": f"mark{number:03d}."}
        if kind == "preferences":
            row |= {"chosen": f"{draw.choice(GOOD_VALUES['chosen'])}", "rejected": "another answer"}
            row |= {name: draw.choice(GOOD_VALUES[name]) for name in ("margin", "soft_label", "score_chosen")}
        elif kind == "demonstrations":
            row["completion"] = draw.choice(GOOD_VALUES["completion"])
        else:
            row["instructions"] = draw.choice(GOOD_VALUES["instructions"])
        if draw.random() < 0.06 and number > 0:
            name = draw.choice(FIELDS[kind])
            row[name] = draw.choice(BAD_VALUES[name])
            bad.append(f"mark{number:03d}.")
        else:
            good.append(f"mark{number:03d}.")
        rows.append(row)
    return rows, good, bad


def json_lines(draw, rows):
    lines = [json.dumps(row) for row in rows]
    return ".jsonl", "\n".join(lines).encode()


def json_array(draw, rows):
    return draw.choice([(".json", json.dumps(rows).encode()), (".json", json.dumps({"data": rows}, indent=1).encode())])


def table_of_text(draw, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    kept = [
        {
            name: value if isinstance(value, str) else "" if value is None else json.dumps(value)
            for name, value in row.items()
        }
        for row in rows
    ]
    delimiter = draw.choice(",\t")
    writer = csv.DictWriter(text, names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(kept)
    return (".csv" if delimiter == "," else ".tsv"), text.getvalue().encode("utf-8", "surrogatepass")


def columns(draw, rows):
    """Parquet or Arrow; columns of one type each, so that only numbers and texts stay as they are."""
    texts = [
        {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in row.items()
            if name in ("prompt", "chosen", "rejected", "completion")
        }
        for row in rows
    ]
    safe = [{name: value.encode("utf-8", "replace").decode() for name, value in row.items()} for row in texts]
    table = pa.Table.from_pylist(safe)
    if draw.random() < 0.4:
        unit, far = draw.choice([("s", 2**50), ("ms", 2**60), ("us", 2**62)])  # none of these years fits Python's dates
        times = [far if draw.random() < 0.05 else 5 for _ in rows]
        table = table.append_column("time", pa.array(times, pa.timestamp(unit)))
    sink = io.BytesIO()
    if draw.random() < 0.5:
        pq.write_table(table, sink, compression=draw.choice(["none", "snappy", "zstd"]))
        return ".parquet", sink.getvalue()
    with (pa.ipc.new_file if draw.random() < 0.5 else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table)
    return ".arrow", sink.getvalue()


def no_file(draw):
    """Files that are wrong as a whole."""
    deep = draw.randrange(100, 50_000)
    return draw.choice(
        [
            (".json", b"null"),
            (".json", b"5"),
            (".json", b'"text"'),
            (".json", b"true"),
            (".json", b"[1, 2"),
            (".json", b"[" * deep),
            (".jsonl", b""),
            (".json", b'{"a":' * deep),
            (".jsonl", b"\n\n"),
            (".jsonl", b"<!doctype html><html>"),
            (".csv", b"a,a\n1,2\n"),
            (".csv", b"\xff\xfe,\x00\n"),
            (".csv", b"prompt\n"),
            (".jsonl.gz", b"no gzip"),
            (".jsonl", draw.randbytes(2000)),
            (".parquet", draw.randbytes(2000)),
            (".arrow", draw.randbytes(2000)),
            (".csv", draw.randbytes(2000)),
            (".json", draw.randbytes(500)),
            (".txt", b"\xff\xfe" + draw.randbytes(500)),
            (".txt", b"\0" * 500),
            (".tsv", b"\0" * 500),
            (".jsonl.gz", gzip.compress(b'{"prompt": "a"}')[:-9]),
            (".parquet", b"PAR1" + b"\0" * 100 + b"PAR1"),
            (".arrow", b"ARROW1\0\0" + b"\xff" * 200),
            (".xyz", b"x"),
            (".jsonl", b"[" * deep),
            (".json", b'[{"prompt": 1, "prompt": 2}]'),
            (".json", b"{}"),
            (".json", b"[]"),
            (".json", b"[[[]]]"),
            (".jsonl", b"5\nnull\n"),
        ]
    )


def damage(draw, content):
    content = bytearray(content)
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(content))
        action = draw.randrange(3)
        if action == 0:
            content[at] ^= draw.randrange(1, 256)
        elif action == 1:
            del content[at : at + draw.randrange(1, 30)]
        else:
            content[at:at] = draw.choice(
                [b"\0", b"\xff", b'"', b"[" * 2000, b"1e999", b"\\ud800", b"NaN", b"\n", draw.randbytes(10)]
            )
        if not content:
            return b"x"
    return bytes(content)


def make(draw):
    """Kind, suffix, bytes, marks of the rows that must be kept, and of those that must not; None where that cannot be known."""
    kind = draw.choice(sorted(FIELDS))
    if draw.random() < 0.2:
        return (kind, *no_file(draw), None, None)
    rows, good, bad = make_rows(draw, kind)
    way = draw.choice([json_lines, json_lines, json_array, table_of_text, columns])
    suffix, content = way(draw, rows)
    if way in (table_of_text, columns):  # all cells are text there, so that fewer of the faults remain faults
        good, bad = ([] if b"time" in content else good), []
    if way is not columns and draw.random() < 0.2:
        suffix, content = f"{suffix}.gz", gzip.compress(content, mtime=0)
    if draw.random() < 0.35:
        return kind, suffix, damage(draw, content), None, None
    return kind, suffix, content, good, bad


def sound(row):
    """What every later stage takes for granted of a row, checked here in other words than in the package."""
    json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    turns = [turn for name in ("messages", "prompt", "chosen", "rejected") for turn in row.get(name) or ()]
    assert turns and all(
        set(turn) == {"role", "content"} and isinstance(turn["content"], str) and turn["content"].strip()
        for turn in turns
    )
    assert all("\0" not in turn["content"] and turn["content"].strip("\u200b\u200d \n") for turn in turns)
    for name in ("margin", "soft_label", "score_chosen", "score_rejected"):
        assert row.get(name) is None or (type(row[name]) is float and math.isfinite(row[name]))
    assert row.get("soft_label") is None or 0 <= row["soft_label"] <= 1
    assert row.get("chosen_ended") in (None, True, False)
    if row.get("instructions") is not None:
        assert all(isinstance(check["id"], str) for check in json.loads(row["instructions"]))


def look(path, kind, places):
    """What `alignflow new` and the stages init and prepare do with a file; returns the marks of the rows that were kept."""
    source = SourceConfig(path=str(path), format="trl") if kind == "prompts" else SourceConfig(path=str(path))
    kinds_of(source)
    sum(len(text.encode()) for text in iter_corpus_texts([source], Counter()))
    kept = parse_sources([source], kind, PrepareConfig(max_broken_fraction=0.5))
    assert kept.read == len(kept.rows) + sum(kept.dropped.values()), "every row that is not kept is counted"
    write_table(kept.rows, kind, places / "rows.parquet")
    rows = read_table(places / "rows.parquet")
    for row in rows:
        sound(row)
    near_duplicates([row_text(row) for row in kept.rows], 0.9)
    return [(row.get("prompt") or row["messages"])[0]["content"] for row in rows]


def test_a_thousand_files_are_read_or_refused_and_no_bad_row_is_kept(tmp_path):
    counts = {"refused": 0, "read": 0, "good": 0, "bad": 0}
    signal.signal(signal.SIGPROF, _ring)
    gc.collect()
    gc.freeze()  # what earlier tests left open must not be found, and warned of, in the middle of an input of ours
    for number in range(COUNT):
        kind, suffix, content, good, bad = make(random.Random(12_000 + number))
        path = tmp_path / f"data{suffix}"
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # seconds of this process, however busy the machine is
        started, message, kept = time.monotonic(), "", []
        try:
            with warnings.catch_warnings(record=True) as leaked:
                warnings.simplefilter("always")
                kept = look(path, kind, tmp_path)
        except AlignflowError as error:
            assert error.exit_status == 2, (number, error)
            message = str(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        case = (number, kind, suffix, message, time.monotonic() - started, content[:2000])
        assert not [warning for warning in leaked if not issubclass(warning.category, DeprecationWarning)], (
            case,
            [str(warning.message)[:150] for warning in leaked],
        )
        assert len(message) < 1000, case
        if good is not None:
            assert not message or not good, case
            assert set(good) <= set(kept), (case, set(good) - set(kept))
            assert not set(bad) & set(kept), (case, set(bad) & set(kept))
            counts["good"], counts["bad"] = counts["good"] + len(good), counts["bad"] + len(bad)
        counts["refused" if message else "read"] += 1
        path.unlink()
    assert counts["refused"] > 200 and counts["read"] > 400 and counts["bad"] > 300, counts
