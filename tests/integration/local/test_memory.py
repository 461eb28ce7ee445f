"""Directories in memory for the tests' servers: nobody takes another's away, and what nobody has any more does not stay."""

from __future__ import annotations

from pathlib import Path

from tests.support.memory import directory


def test_what_a_killed_run_has_left_is_deleted_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    left, private, another = (tmp_path / f"cfm-tests-{name}" for name in ("left", "private", "another"))
    for folder, mode in ((left, 0o711), (private, 0o700)):
        folder.mkdir()
        folder.chmod(mode)
        (folder / "file").touch()
    another.symlink_to(private)
    with directory(tmp_path, room=0) as first:
        assert first is not None
        assert not left.exists()
        assert (private / "file").exists()
        with directory(tmp_path, room=0) as second:
            assert second is not None
            assert {first, second} < set(tmp_path.iterdir())
        assert set(tmp_path.iterdir()) == {first, private, another}
    assert not first.exists()


def test_where_there_is_no_room_there_is_none(tmp_path: Path) -> None:
    with directory(tmp_path, room=1 << 60) as found:
        assert found is None
    with directory(tmp_path / "nowhere") as found:
        assert found is None
    assert list(tmp_path.iterdir()) == []
