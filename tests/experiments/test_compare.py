"""Two runs side by side, and refusals that say what differs, on hand-made records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import PROOF, line, resplit, run
from reporting import invent

from unheard.errors import RunError, SplitError
from unheard.experiments.records import RunRecords
from unheard.report.comparison import compare_runs, to_json, to_markdown
from unheard.splits.split import Assigned

WORSE = {"s0": "aa as ss sa", "s1": "as ss", "s2": "aa sa"}  # 4 of 8
MIDDLE = {"s0": "aa as ss sa", "s1": "aa ss", "s2": "aa ss"}  # 6 of 8
BETTER = {"s0": "aa aa ss sa", "s1": "aa ss", "s2": "aa ss"}  # 7 of 8


def refused(a: RunRecords, b: RunRecords) -> str:
    with pytest.raises(SplitError) as caught:
        compare_runs(a, b)
    return str(caught.value)


def test_side_by_side() -> None:
    """SER_only 4 -> 7 of 8: three equal shares, p = 2/8. DAT 6 -> 6 over seeds 0 and 1, though A has a third."""
    a = run(line("ser", {0: WORSE}), line("dat", {0: WORSE, 1: MIDDLE, 2: BETTER}), line("mtl", {0: WORSE}), out="A")
    b = run(line("ser", {0: BETTER}), line("dat", {0: MIDDLE, 1: WORSE}), line("mtl", {}, wanted=3), out="B")
    found = compare_runs(a, b)
    assert [first.name for first, _ in found.lines] == ["SER_only", "SER_SR_DAT"]
    ser, _, dat, _ = found.contrasts
    assert (ser.metric, ser.difference, ser.p) == ("wa", pytest.approx(3 / 8), 0.25)
    assert (ser.before, ser.after) == (0.5, 0.875)
    assert ser.p_holm == 0.5  # of the two systems compared
    assert (dat.seeds, dat.difference, dat.p) == ((0, 1), pytest.approx(0), 1)
    assert found.notes == ("SER_SR_MTL is left out: no complete seed in B.",)
    assert found.settings == ()
    back = compare_runs(b, a).contrasts[0]
    assert (back.difference, back.p) == (-ser.difference, ser.p)
    text = to_markdown(found)
    assert "| SER_only | 50.0 ± – (50.0 to 50.0) | 87.5 ± – (75.0 to 100.0) |" in text
    assert "| SER_only | WA | +37.5 |" in text
    assert "No other setting differs." in text


def test_equal_runs_and_runs_with_other_seeds() -> None:
    records = run(line("ser", {0: WORSE, 1: MIDDLE}), line("cgt", {0: BETTER}, chosen=True))
    same = compare_runs(records, records)
    assert all((one.difference, one.p, one.p_holm) == (0, 1, 1) for one in same.contrasts)
    assert (same.contrasts[2].name, same.notes) == ("SER_SR_CGT, ε chosen", ())
    found = compare_runs(run(line("ser", {0: WORSE, 1: MIDDLE})), run(line("ser", {2: BETTER}, wanted=9)))
    assert found.contrasts[0].seeds == ()
    assert found.contrasts[0].difference == pytest.approx(7 / 8 - 5 / 8)
    assert found.notes == (
        "SER_only is incomplete in B: 3/9 trainings.",
        "The runs share no seed of SER_only: the means over each run's seeds are compared.",
    )
    with pytest.raises(RunError, match="no system has a complete seed in both"):
        compare_runs(run(line("ser", {0: WORSE})), run(line("dat", {0: WORSE})))


def test_json() -> None:
    found = compare_runs(run(line("ser", {0: {"s0": "aa ss"}})), run(line("ser", {0: {"s0": "aa sa"}})))
    wa, uar = json.loads(to_json(found))["systems"]
    assert (wa["metric"], uar["metric"], wa["shares"], wa["p"]) == ("wa", "uar", {"s0": -0.5}, 1)
    assert (wa["difference"], wa["rerr"], wa["a_std"], wa["low"]) == (-0.5, None, None, None)


def test_material_settings_that_differ_are_listed() -> None:
    a = run(line("ser", {0: WORSE}), out="A", workers=1, root="here", training={"lr": 0.001}, protocol="loso")
    a = replace(a, settings=replace(a.settings, network=replace(a.settings.network, summary=287)))
    b = run(
        line("ser", {0: WORSE}), out="B", workers=2, root="there", training={"lr": 0.01}, options={"dat": {"lam": 0.3}}
    )
    older = {"proof": PROOF | {"versions": {"unheard": "0.1.0", "torch": "2.6.0"}}}
    b = replace(b, cells=tuple(replace(cell, result=older) for cell in b.cells))
    assert compare_runs(a, b).settings == (
        ("training.lr", "0.001", "0.01"),
        ("options.dat.lam", "–", "0.3"),
        ("version of torch", "2.13.0", "2.6.0"),
    )
    assert "| training.lr | 0.001 | 0.01 |" in to_markdown(compare_runs(a, b))


def test_other_speakers_are_named_with_their_fold_and_the_setting_to_mend() -> None:
    a, b = run(line("ser", {0: WORSE})), run(line("ser", {0: WORSE}), split_seed=1)
    other = {"s1": "s2", "s2": "s1"}

    def exchanged(row: Assigned) -> Assigned:
        """Fold 0 validates on s2 and trains on s1, and no longer the other way round."""
        part = {"s1": "train", "s2": "dev"}.get(row.speaker, row.part) if row.fold == 0 else row.part
        return row._replace(part=part, direction="" if part == "train" else "test")

    said = refused(a, resplit(b, [exchanged(row) for row in b.splits]))
    assert "fold 0 validates on the speakers s1 in A only and s2 in B only; fold 0 trains on the speakers s2" in said
    assert "--split-seed (0 in A, 1 in B)" in said
    swapped = [row._replace(speaker=other.get(row.speaker, row.speaker)) for row in b.splits]
    assert "fold 1 tests the speakers s1 in A only and s2 in B only" in refused(a, resplit(b, swapped))


def test_other_folds_directions_and_utterances_are_named() -> None:
    a = run(line("ser", {0: WORSE}))
    rows = list(a.splits)
    said = refused(a, resplit(a, [row for row in rows if row.fold < 2]))
    assert "the folds and directions differ: fold 2 dev, fold 2 test, fold 2 train in A only" in said
    named = [row._replace(direction=row.direction and "male") for row in rows]
    assert "and fold 0 (male) dev, fold 0 (male) test, fold 1 (male)" in refused(a, resplit(a, named))
    fewer = [row for row in rows if not (row.fold == 0 and row.id == "s0-1")]
    said = refused(a, resplit(a, fewer))
    assert "fold 0 tests the utterances s0-1 in A only." in said
    assert "Run both on the same corpus, in the same version" in said
    many = run(line("ser", {0: {f"s{i}": "aa" for i in range(4)}}))
    added = [Assigned(0, "", "train", f"n{i}-0", f"n{i}") for i in range(8)]
    said = refused(many, resplit(many, [*many.splits, *added]))
    assert "fold 0 trains on the speakers n0, n1, n2, n3, n4, n5 and 2 more in B only" in said


def test_other_labels_emotions_and_recordings_are_refused() -> None:
    a = run(line("ser", {0: WORSE}))
    labels = replace(a, labels=("angry", "happy"))
    assert "their emotions differ, angry, sad in A, angry, happy in B" in refused(a, labels)
    relabelled = {**a.utterances, "s1-0": {**a.utterances["s1-0"], "emotion": "sad"}}
    assert "the emotion of 's1-0' is angry in A, sad in B" in refused(a, replace(a, utterances=relabelled))
    proof = {"proof": PROOF | {"data": "d1"}}
    cells = tuple(replace(cell, result=proof) if cell.fold == 1 else cell for cell in a.cells)
    assert "the recordings of fold 1 are not the same" in refused(a, replace(a, cells=cells))
    other_features = {"proof": PROOF | {"data": "d1", "features": "f1"}}
    cells = tuple(replace(cell, result=other_features) for cell in a.cells)
    found = compare_runs(a, replace(a, cells=cells))  # its digest covers the features too: nothing is known
    assert found.contrasts
    assert "only the names of the recordings could be compared" in " ".join(found.notes)


def test_the_command(tmp_path: Path, cli: Any) -> None:
    """With itself, in both formats; with another split, refused with exit code 2."""
    how = {"speakers": 8, "seeds": 1, "systems": ("ser", "dat"), "extras": False}
    own, other = invent(tmp_path / "own", folds=4, **how), invent(tmp_path / "other", folds=2, **how)
    assert "| SER_SR_DAT | WA | 0.0 | 0.0 to 0.0 | 0.0 % | 1.000 | 1.000 | – |" in cli("compare", own, own)[0]
    cli("compare", own, own, "--format", "json", "-o", tmp_path / "c.json")
    assert len(json.loads((tmp_path / "c.json").read_text())["systems"]) == 4
    _, err = cli("compare", own, other, code=2)
    assert err.startswith("unheard: A = ")
    assert err.count("\n") == 1
    assert "holds no run" in cli("compare", own, tmp_path / "none", code=2)[1]
