"""The server's benchmark commands at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `server`")

from serving import model_folder

from benchmarks.server import main


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to watch memory")
def test_load_and_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(model_folder(tmp_path / "tiny"))
    assert main(["load", "--model", model, "--seconds", "0.3", "--clients", "1,2"]) == 0
    assert "| 2 | /predict, 3 s |" in capsys.readouterr().out
    main(["soak", "--model", model, "--seconds", "2", "--clients", "2"])
    out = capsys.readouterr().out
    assert "| 5xx other than 503 while stopping | 0 |" in out
    assert "| answers lost | 0 |" in out
