"""What alignflow made in the folders that gc looks through, and what it did not make."""

from alignflow.tasks.store.leftovers import entries, size_of


def test_strange_files_are_not_ours_and_are_named(store):
    for area in ("artifacts", "staging"):
        (store.root / area).mkdir(parents=True, exist_ok=True)
        (store.root / area / "notes of mine").write_text("x")
    made, strange = entries(store.root)
    assert made == [] and {path.name for path in strange} == {"notes of mine"} and len(strange) == 2


def test_a_size_counts_all_files_and_follows_no_link(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 10)
    (tmp_path / "a" / "d").write_bytes(b"x" * 5)
    (tmp_path / "large").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "large")
    assert 15 <= size_of(tmp_path / "a") < 1000 and size_of(tmp_path / "nothing") == 0
