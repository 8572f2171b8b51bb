"""Raw formats of data: one file per format, each with `parse(row, kind) -> rows of that table`."""
