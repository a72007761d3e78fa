"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from unheard.errors import UnheardError
from unheard.files import write_text, write_whole


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_text(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise OSError(28, "No space left on device")

    with pytest.raises(UnheardError, match=r"No space left on device.*free some space"):
        write_whole(path, half)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnheardError, match=r"cannot be written.*a file"):
        write_text(tmp_path / "file" / "inside", "text")
