"""Checkpoints that were damaged, forged or of another training; files that are written whole."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import (
    BOTH,
    NETWORK,
    READINGS,
    TRAIN,
    C,
    F,
    S,
    tiny,
    trainer,
)

from unheard.errors import TrainingError, UnheardError
from unheard.files import write_text, write_whole
from unheard.training.recipe import TrainingSettings
from unheard.training.strategies import Setting, build
from unheard.training.trainer import Direction, Trainer


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class TestBadCheckpoints:
    @pytest.mark.parametrize("how", ["empty", "truncated", "text", "flipped"])
    def test_damaged(self, how: str, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        path = tmp_path / "checkpoint.pt"
        whole = path.read_bytes()
        data = bytearray(whole)
        data[len(whole) // 4 : 3 * len(whole) // 4] = bytes(
            b ^ 255 for b in whole[len(whole) // 4 : 3 * len(whole) // 4]
        )
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello", "flipped": data}[how])
        with pytest.raises(TrainingError, match="Delete it") as raised:
            trainer("ser", tmp_path).resume()
        assert str(path) in str(raised.value)

    def test_of_another_strategy(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        with pytest.raises(TrainingError, match="checkpoint"):
            trainer("dat", tmp_path).resume()

    def test_of_another_strategy_with_the_same_parts(self, tmp_path: Path) -> None:
        trainer("dat", tmp_path).run(1)
        with pytest.raises(TrainingError, match="belongs to"):
            trainer("mtl", tmp_path).resume()

    def test_of_another_learning_rate(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path, lr=0.5).run(1)
        with pytest.raises(TrainingError, match="belongs to"):
            trainer("ser", tmp_path, lr=0.25).resume()

    def test_what_a_killed_process_left_is_removed(self, tmp_path: Path) -> None:
        leftover = tmp_path / ".checkpoint.pt.123.tmp"
        leftover.write_bytes(b"half")
        trainer("ser", tmp_path).resume()
        assert not leftover.exists()

    def test_a_reading_without_utterances(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="no validation or no test"):
            trainer("ser", tmp_path, [Direction("test", (), READINGS[0].test)])

    def test_of_another_size(self, tmp_path: Path) -> None:
        trainer("mtl", tmp_path).run(1)
        other = build("mtl", Setting(F, C, S + 1, NETWORK, 0))
        training = Trainer(other, tiny()[0], TRAIN, READINGS, TrainingSettings(), tmp_path)
        with pytest.raises(TrainingError, match="checkpoint"):
            training.resume()

    def test_of_other_readings(self, tmp_path: Path) -> None:
        trainer("ser", tmp_path).run(1)
        with pytest.raises(TrainingError, match="checkpoint"):
            trainer("ser", tmp_path, BOTH).resume()

    @pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}])
    def test_of_another_program(self, content: object, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(TrainingError, match="checkpoint"):
            trainer("ser", tmp_path).resume()

    def test_no_code_runs_from_one(self, tmp_path: Path) -> None:
        evil = tmp_path / "evil"
        for content in (Malicious(evil), {"weights": Malicious(evil)}):
            torch.save(content, tmp_path / "checkpoint.pt")
            with pytest.raises(TrainingError, match="checkpoint"):
                trainer("ser", tmp_path).resume()
            assert not evil.exists()
        torch.load(tmp_path / "checkpoint.pt", weights_only=False)
        assert evil.exists()  # it would have

    def test_a_full_disk_keeps_the_last_checkpoint(self, tmp_path: Path) -> None:
        training = trainer("ser", tmp_path)
        training.run(1)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["checkpoint.pt"]) // 2, limits[1]))
        try:
            with pytest.raises(UnheardError, match=r"cannot be written.*free some space"):
                training.run(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        again = trainer("ser", tmp_path)
        assert again.resume()
        assert again.epoch == 1


class TestWholeFiles:
    def test_the_old_file_stays_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
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

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UnheardError, match=r"cannot be written.*a file"):
            write_text(tmp_path / "file" / "inside", "text")
