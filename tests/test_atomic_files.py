import pytest

from sfm_jax.atomic_files import atomic_write


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.txt"
    with atomic_write(file) as partial:
        partial.write_text("one")
        assert not file.exists()
    with pytest.raises(RuntimeError), atomic_write(file) as partial:
        partial.write_text("two")
        raise RuntimeError
    assert file.read_text() == "one" and list(tmp_path.iterdir()) == [file]
