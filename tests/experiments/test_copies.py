"""Trainings on changed copies of the recordings: stored once, trained on, never tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experimenting import experiment, rows_of
from tiny_encoder import save_huggingface, tiny_weights

from unheard.features import FeatureStore

pytestmark = pytest.mark.usefixtures("one_process")


def test_copies_are_stored_and_change_the_training_alone(tmp_path: Path) -> None:
    encoder = save_huggingface(tmp_path / "tiny", tiny_weights())
    (tmp_path / "flat.yaml").write_text("network: {tdnn: [], lstm: 0, dense: 8}")
    common = ["--features.kind", "encoder", "--features.encoder", str(encoder), "--features.layer", "1,2"]
    common += ["--features.pool", "statistics", "--config", str(tmp_path / "flat.yaml")]
    common += ["--systems", "ser", "--epochs", "3", "--folds", "1", "--training.sampling", "balanced"]
    runs = {copies: tmp_path / f"run{copies}" for copies in (0, 2)}
    for copies, out in runs.items():
        assert experiment(out, *common, "--training.copies", str(copies)) == 0
    stores = [FeatureStore(runs[2] / "features" / place) for place in ("", "copy1", "copy2")]
    assert [store.settings.copy for store in stores] == [0, 1, 2]
    name = next(iter(stores[0]))
    assert not np.allclose(stores[1][name], stores[0][name])
    assert not np.allclose(stores[1][name], stores[2][name])
    np.testing.assert_array_equal(FeatureStore(runs[0] / "features")[name], stores[0][name])
    assert not (runs[0] / "features" / "copy1").exists()
    tables = [rows_of(next((out / "cells").glob("*/predictions.csv"))) for out in runs.values()]
    assert [row["id"] for row in tables[0]] == [row["id"] for row in tables[1]]
    assert [row["p_sad"] for row in tables[0]] != [row["p_sad"] for row in tables[1]]
