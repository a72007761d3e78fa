"""Today's values equal the recorded ones; see README.md in this folder."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from frozen.record import (
    CONTRASTS,
    EXPERIMENTS,
    MOVED,
    contrast_numbers,
    experiment,
    machine,
    published,
    read_recorded,
    tiny,
)

RUNS, TINY, PUBLISHED = (read_recorded(name) for name in ("experiments", "tiny", "published"))
HERE = machine()


def assert_close(found: Any, recorded: Any, tolerance: float, where: str = "") -> None:
    """Numbers within `tolerance`, everything else equal, in lists and dictionaries of the same shape."""
    if isinstance(recorded, dict):
        assert found.keys() == recorded.keys(), where
        for key, value in recorded.items():
            assert_close(found[key], value, tolerance, f"{where} / {key}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for place, value in enumerate(recorded):
            assert_close(found[place], value, tolerance, f"{where} / {place}")
    elif isinstance(recorded, float):
        assert abs(found - recorded) <= tolerance, (where, found, recorded)
    else:
        assert found == recorded, where


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frozen")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments(name: str, folder: Path) -> None:
    """Everything to the last bit on the machine of the record; elsewhere close probabilities and equal labels."""
    same = RUNS["machine"] == HERE
    if HERE["capability"] not in ("AVX2", "AVX512") and "recipe" in EXPERIMENTS[name]:
        pytest.skip("PyTorch draws other dropout masks on a CPU without AVX2")
    found = experiment(name, folder)
    assert found["predictions"].keys() == RUNS[name]["predictions"].keys()
    for key, rows in RUNS[name]["predictions"].items():
        elsewhere = 0.1 if key.startswith("cgt") else 1e-3  # its perturbed inputs amplify rounding errors most
        assert_close(found["predictions"][key], rows, 5e-7 if same else elsewhere, key)
    assert_close(found["accuracies"], RUNS[name]["accuracies"], 1e-12)
    assert_close(found["choices"], RUNS[name]["choices"], 1e-12)
    assert found["adaptation"] == RUNS[name]["adaptation"]
    if same:
        assert found["weights"] == RUNS[name]["weights"]


@pytest.mark.parametrize("name", [name for name in TINY if name != "machine"])
def test_tiny(name: str) -> None:
    found = tiny(name)
    embedding, recorded = (one.pop("embedding") for one in (found, dict(TINY[name])))
    assert_close(found, {key: value for key, value in TINY[name].items() if key != "embedding"}, 1e-6)
    assert_close(embedding, recorded, 1e-5)


@pytest.mark.parametrize("name", [name for name in PUBLISHED["runs"] if MOVED.get(name, name) is not None])
def test_published_runs(name: str) -> None:
    found, recorded = published(name), PUBLISHED["runs"][name]
    assert_close(found["accuracies"], recorded["accuracies"], 1e-12)
    assert found["contrasts"].keys() == recorded["contrasts"].keys()
    exact = all(one["exact"] for one in recorded["contrasts"].values())
    for key, one in recorded["contrasts"].items():
        own = found["contrasts"][key]
        assert abs(own["p"] - one["p"]) <= (1e-9 if exact else sampling_error(one["p"])), key
        assert abs(own["p_holm"] - one["p_holm"]) <= (1e-9 if exact else 4 * sampling_error(one["p"])), key
        for other in ("difference", "interval", "exact", "detectable"):
            assert_close(own[other], one[other], 1e-9, f"{key} {other}")


def sampling_error(p: float) -> float:
    """How far apart two estimates of `p` by 10,000 permutations each may be: 4 standard errors, and the rounding."""
    return 4 * sqrt(2 * p * (1 - p) / 10_000) + 1e-3


@pytest.mark.parametrize("about", CONTRASTS)
def test_published_contrasts(about: str) -> None:
    """The numbers that `unheard contrast` prints of three runs; the fifth and sixth of seven are p and Holm's p.

    The first rows are those of each run alone.
    """
    names, contrasts = ("emodb", "ravdess", "ased"), PUBLISHED["contrasts"]
    recorded = contrasts[f"{'+'.join(names)}: {about}"]
    alone = [row for name in names for row in contrasts[f"{name}: {about}"]]
    assert recorded[: len(alone)] == alone
    found = contrast_numbers(*names, options=CONTRASTS[about])
    assert [len(row) for row in found] == [len(row) for row in recorded]
    for own, row in zip(found, recorded, strict=True):
        assert own[:4] + own[6:] == row[:4] + row[6:]
        for place, times in ((4, 1), (5, 4)) if len(row) == 7 else ():
            assert abs(float(own[place]) - float(row[place])) <= times * sampling_error(float(row[4]))
