from __future__ import annotations

from pathlib import Path

import pytest

from cfm_core.errors import FatalError
from cfm_core.secret_file import LastingSecret


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" first \n")
    read = LastingSecret(file)
    assert read() == "first"
    file.write_text("second")
    assert read() == "second"


def test_a_mounted_file_that_is_replaced_with_its_folder_is_read_again(tmp_path: Path) -> None:
    # As a volume of secrets does it: names lead through a link, which is turned.
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(name)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "secret").symlink_to("data/secret")
    read = LastingSecret(tmp_path / "secret")
    assert read() == "one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    assert read() == "two"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_what_cannot_be_read_is_told_at_first_and_bridged_later(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_text("canary")
    read = LastingSecret(file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FatalError, match=str(file)):
        LastingSecret(file)
    assert read() == "canary"
    assert str(file) in caplog.text
    assert "canary" not in caplog.text + repr(read)
    file.write_text("new")
    assert read() == "new"
