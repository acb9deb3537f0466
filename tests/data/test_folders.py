"""Files below folders, links and all."""

from sfm_jax.data.folders import files_below


def test_links_are_followed_and_never_in_circles(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "a.txt").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "b.txt").touch()
    (root / "one").symlink_to(tmp_path / "real")
    (root / "two").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(root)
    names = [path.relative_to(root).as_posix() for path in files_below(root)]
    assert names == ["b.txt", "one/deep/a.txt", "two/deep/a.txt"]
    assert files_below(root / "nowhere") == []


def test_hidden_files_and_folders_are_left_out(tmp_path):
    (tmp_path / ".face_1.4711.partial").mkdir()
    for name in (".face_1.4711.partial/params.npz", "._a.mat", "a.mat"):
        (tmp_path / name).touch()
    assert files_below(tmp_path) == [tmp_path / "a.mat"]
