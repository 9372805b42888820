"""Files that are replaced whole or not at all."""

import pytest

from training.data.atomic import replace_all, replacing


def test_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "file"
    for content in ("first", "second"):
        with replacing(path) as partial:
            partial.write_text(content)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_no_other(error, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        fail()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_text_is_written_to_its_path(tmp_path):
    contents = {tmp_path / "first": "σ", tmp_path / "new" / "second": "2"}

    replace_all(contents)

    assert {path: path.read_text(encoding="utf-8") for path in contents} == contents


def test_no_file_is_replaced_if_one_cannot_be_written(tmp_path):
    old, blocked = tmp_path / "old", tmp_path / "old" / "below"
    old.write_text("old")

    for contents in ({old: "new", blocked: "new"}, {blocked: "new", old: "new"}):
        with pytest.raises(OSError, match=r"below|directory"):
            replace_all(contents)

        assert old.read_text() == "old"
        assert list(tmp_path.iterdir()) == [old]
