"""The table of verdicts."""

import pyarrow.parquet as pq

from alignflow.data.judging.verdict_table import VERDICT_FILE, VERDICTS, write_verdicts


def test_a_column_that_a_row_lacks_is_null(tmp_path):
    write_verdicts([{"id": "p", "probability": 0.7, "given": 0.6, "swapped": 0.8, "reason": ""}], tmp_path)
    table = pq.read_table(tmp_path / VERDICT_FILE)
    assert table.schema.names == VERDICTS.names
    assert table.to_pylist()[0] | {"probability": 0.7, "raw_given": None, "gold": None} == table.to_pylist()[0]
