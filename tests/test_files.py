import pytest

from training.files import replacing


def test_file_appears_whole_in_the_place_of_the_old(tmp_path):
    path = tmp_path / "new" / "file"
    for content in ("first", "second"):
        with replacing(path) as partial:
            partial.write_text(content)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(error, tmp_path):
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
