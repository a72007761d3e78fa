"""The model folder: figures of its card, small file and settings, from a hand-made run and from a trained cell."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from experimenting import cells, corpus
from exporting import NETWORKS, random_model
from made_runs import line, run

import unheard
from unheard.cli import main
from unheard.corpora import read_manifest
from unheard.errors import ExportError, UnheardError
from unheard.experiments.evaluate import evaluate
from unheard.experiments.records import RunRecords, read_run
from unheard.export import card
from unheard.export.card import corpora_called, data_of
from unheard.export.evidence import ModelResult, evidence_of
from unheard.export.folder import write_folder
from unheard.export.onnx import Facts
from unheard.export.quantise import measure_cost
from unheard.features import Normaliser
from unheard.licence import hub_licence, licence_warnings
from unheard.manifest import Manifest
from unheard.model.saving import Model
from unheard.recogniser import hub

ANSWERS = {"s0": "aa as ss ss", "s1": "aa sa"}
"""s0: 3 of 4 right, recalls 1/2 and 1; s1: 1 of 2 right, recalls 1 and 0."""


def model_of_run(**about: str) -> Model:
    return random_model(NETWORKS["iemocap"], labels=("angry", "sad"), **about)


def made(**columns: dict[str, str]) -> RunRecords:
    records = run(line("ser", {0: ANSWERS, 1: {"s0": "aa aa ss ss", "s1": "aa sa"}}), line("dat", {0: ANSWERS}))
    rows = {
        name: row | {column: values[row["speaker"]] for column, values in columns.items()}
        for name, row in records.utterances.items()
    }
    return replace(records, utterances=rows)


def front_matter(text: str) -> dict[str, object]:
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found
    return dict(yaml.safe_load(found[1]))


# --- figures


def test_figures_of_groups() -> None:
    genders = {"s0": "female", "s1": "male"}
    found = evidence_of(model_of_run(), made(gender=genders, corpus={"s0": "emodb", "s1": "ased"}), "ser")
    assert (found.system, found.folds, found.seeds, found.own) == ("SER_only", 2, 2, None)
    groups = {(one.corpus, one.gender): one for one in found.groups}
    assert list(groups) == [("", ""), ("ased", ""), ("emodb", ""), ("", "female"), ("", "male"), ("ased", "male"),
                            ("emodb", "female")]  # fmt: skip
    whole = groups["", ""]
    assert (whole.speakers, whole.utterances) == (2, 6)
    assert whole.wa == pytest.approx((4 / 6, 5 / 6))
    assert whole.uar == pytest.approx(((2 / 3 + 2 / 3) / 2, (1 + 2 / 3) / 2))
    assert groups["", "female"].wa == pytest.approx((3 / 4, 1.0))
    assert groups["ased", ""].wa == groups["", "male"].wa == pytest.approx((0.5, 0.5))
    assert found.recall == pytest.approx({"angry": (2 / 3 + 1) / 2, "sad": 2 / 3})
    assert (found.lowest, found.highest) == pytest.approx((0.5, 0.875))


def test_own_figures_are_those_of_its_fold_and_seed() -> None:
    model = model_of_run(cell="ser-0-1", direction="test")
    own = ModelResult(fold=0, seed=1, speakers=1, utterances=4, wa=1.0, uar=1.0)
    assert evidence_of(model, made()).own == evidence_of(model, made(), "ser").own == own
    assert [(one.corpus, one.gender) for one in evidence_of(model_of_run(), made(), "dat").groups] == [("", "")]


@pytest.mark.parametrize(
    ("change", "system", "message"),
    [
        ({"labels": ("angry", "happy")}, "ser", "other labels"),
        ({"settings": NETWORKS["mandarin"]}, "ser", "other network"),
        ({"normaliser": Normaliser("utterance")}, "ser", "other normalisation"),
        ({}, "", "several systems"),
        ({}, "mtl", "no system 'mtl'"),
        ({"about": {"cell": "ser-0-1"}}, "dat", "training of the run's 'ser', not of 'dat'"),
        ({}, "cgt", "no complete seed"),
    ],
)
def test_figures_that_do_not_belong_to_the_model(change: dict[str, object], system: str, message: str) -> None:
    records = made()
    records = replace(records, lines=(*records.lines, line("cgt", {}, wanted=2)))
    with pytest.raises(ExportError, match=message):
        evidence_of(replace(model_of_run(), **change), records, system)  # type: ignore[arg-type]


# --- the card


def written(**change: object) -> str:
    model = model_of_run(train_speakers=json.dumps(["emodb/03", "emodb/08", "ravdess/01", "mine/x"]))
    facts = Facts(name="tiny", licence="CC BY-NC-SA 4.0", data=data_of(model), temperature=1.7)
    evidence = evidence_of(model, made(gender={"s0": "female", "s1": "male"}), "ser")
    return card.card(**{"model": model, "facts": facts, "evidence": (evidence,), **change})  # type: ignore[arg-type]


def test_front_matter_is_what_the_hub_reads() -> None:
    values = front_matter(written())
    assert values["license"] == "cc-by-nc-sa-4.0"
    assert values["language"] == ["de", "en"]
    assert values["library_name"] == "unheard"
    assert values["datasets"] == ["emodb", "mine", "ravdess"]
    (index,) = values["model-index"]  # type: ignore[misc]
    metrics = {one["type"]: one["value"] for one in index["results"][0]["metrics"]}
    assert metrics == {"accuracy": 0.75, "recall": 0.75}
    assert "model-index" not in front_matter(written(evidence=()))


def test_card_says_whom_it_knows_what_it_is_worth_and_what_it_is_not_for() -> None:
    text = written()
    assert "| [EmoDB (Berlin Database of Emotional Speech)](http://emodb.bilderbar.info/) | de | 2 |" in text
    assert "| mine | – | 1 | unknown to this program |" in text
    assert "Burkhardt" in text
    assert "| all | 2 | 6 | 75.0 ± 11.8 | 75.0 ± 11.8 |" in text
    assert "| female | 1 | 4 | 87.5 ± 17.7 |" in text
    assert "another training of the recipe: none of these figures was measured on this file" in text
    assert "divided by T = 1.7 " in text
    assert "Article 5(1)(f)" in text
    assert "at work or in education" in text
    assert "EmoDB (Berlin Database of Emotional Speech), RAVDESS (speech) are **acted**" in text
    assert "How the recordings of mine were made is unknown" in text


def test_names_do_not_add_columns_to_the_tables_of_a_card() -> None:
    evidence = evidence_of(model_of_run(), made(), "ser")
    text = written(evidence=(replace(evidence, groups=(replace(evidence.groups[0], corpus="a|b"),)),))
    assert "| a\\|b | " in text


def test_a_card_says_where_the_temperature_was_chosen() -> None:
    evidence = replace(evidence_of(model_of_run(), made(), "ser"), corpora_left_out=True)
    text = written(evidence=(evidence,))  # chosen on validation speakers of the training corpora all the same
    assert "is chosen on corpora left out" not in text
    assert "Each corpus was tested by trainings on the others only" in text


def test_card_without_measurements_and_with_sections_of_ones_own() -> None:
    text = written(evidence=(), facts=Facts(name="tiny"), sections=(("Probe", "Nothing found."),))
    assert "Not measured." in text
    assert not re.search(r"\d+\.\d+ %", text)
    assert front_matter(text)["license"] == "other"
    assert "divided" not in text
    assert "## Probe\n\nNothing found." in text


@pytest.mark.parametrize(
    ("licence", "known"), [("MIT", "mit"), ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"), ("my own", ""), ("", "")]
)
def test_licences_of_the_hub(licence: str, known: str) -> None:
    assert hub_licence(licence) == known


@pytest.mark.parametrize(
    ("corpus", "licence", "demands"),
    [
        ("ravdess", "MIT", ("non-commercial", "share-alike")),
        ("ravdess", "UIUC-NCSA", ("non-commercial", "share-alike")),
        ("ravdess", "CC BY-NC-SA 4.0", ()),
        ("iemocap", "MIT", ("for research",)),
        ("savee", "MIT", ("for research",)),
        ("esd", "MIT", ("for research",)),
        ("casia", "MIT", ("by agreement",)),
        ("crema-d", "MIT", ("share-alike",)),
        ("emodb", "MIT", ()),
    ],
)
def test_demands_of_the_corpora_on_the_licence(corpus: str, licence: str, demands: tuple[str, ...]) -> None:
    data = [(one.title, one.licence) for one in corpora_called([corpus])]
    warnings = licence_warnings(licence, data)
    assert len(warnings) == len(demands)
    assert all(demand in warning for demand, warning in zip(demands, warnings, strict=True))
    assert all(f"'{licence}' is not" in warning for warning in warnings)
    assert not licence_warnings(data[0][1], data)
    assert not licence_warnings(licence, [("X", "CC0")])


# --- the folder


@pytest.fixture(scope="module")
def cell(done: Path) -> Path:
    return next(folder for name, folder in cells(done).items() if name.startswith("dat-fold0-seed0"))


def test_from_a_trained_cell_to_a_folder(
    done: Path, cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, manifest = tmp_path / "my", corpus() / "manifest.csv"
    arguments = ["export", str(cell), "-o", str(out), "--run", str(done), "--int8", "--manifest", str(manifest)]
    assert main([*arguments, "--push", "no repository"]) == 2
    assert not out.exists()
    monkeypatch.setattr(hub, "check", lambda name: None)
    monkeypatch.setattr(hub, "push", lambda folder, name: f"pushed {folder / 'model.onnx'} to {name}")
    assert main([*arguments, "--name", "tiny", "--push", "anna/tiny"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(out), f"pushed {out / 'model.onnx'} to anna/tiny"]
    assert {file.name for file in out.iterdir()} == {
        *("model.onnx", "model.int8.onnx", "README.md", "config.json", "SHA256SUMS")
    }
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert config["id2label"] == {"0": "angry", "1": "sad"}
    assert config["name"] == "tiny"
    found = evidence_of(Model.load(cell), read_run(done))
    assert config["temperature"] == pytest.approx(found.calibration.temperature)
    assert found.own is not None
    text = (out / "README.md").read_text("utf-8")
    assert f"{100 * found.groups[0].wa[0]:.1f}" in text
    assert "SER_SR_DAT" in text
    assert "figures from them support no claim about speech" in text
    assert "## The small file" in text
    assert "May I use it commercially? Unclear: the weights have no licence" in text
    bands = found.calibration.bands
    assert sum(band.utterances for band in bands) == found.groups[0].utterances * found.seeds
    rows = re.findall(r"^\| (?:below|above|\d\d to) \d+ % \| (\d+) \| ([\d.]+) \|$", text, re.MULTILINE)
    shown = [(int(of), float(right)) for of, right in rows]
    assert shown == [(band.utterances, round(100 * band.accuracy, 1)) for band in bands if band.utterances]


def test_cost_is_measured_on_speakers_not_heard(cell: Path, tmp_path: Path) -> None:
    model, table = Model.load(cell), read_manifest(corpus() / "manifest.csv")
    write_folder(model, tmp_path, Facts(name="x"), int8=True)
    files = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    cost = measure_cost(model, files, table)
    training_identities = {name.partition("/")[2] for name in json.loads(model.about["train_speakers"])}
    unseen = table.where(lambda row: row.speaker not in training_identities)
    assert (cost.seen, cost.speakers, cost.utterances) == (False, len(unseen.speakers), len(unseen))
    assert cost.wa[0] == pytest.approx(evaluate(cell, unseen).scores.wa)
    assert cost.size == tuple(file.stat().st_size for file in files)
    assert 0 < cost.shift < 0.05
    trained = measure_cost(model, files, table.where(lambda row: row.speaker in training_identities))
    assert trained.seen
    text = card.card(model, Facts(name="x"), cost=trained)
    assert "only the difference between the files means something" in text


def test_a_folder_is_replaced_whole_or_not_at_all(cell: Path, tmp_path: Path) -> None:
    model, readme = Model.load(cell), tmp_path / "README.md"
    readme.write_text("my project")
    with pytest.raises(ExportError, match=r"README\.md that does not belong to a model"):
        write_folder(model, tmp_path, Facts(name="x"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"README.md": "my project"}
    readme.unlink()
    write_folder(model, tmp_path, Facts(name="x"), int8=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UnheardError):
        write_folder(model, tmp_path, Facts(name="y"), int8=True, manifest=Manifest(()))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_folder(model, tmp_path, Facts(name="x"))
    assert not (tmp_path / "model.int8.onnx").exists()


def test_an_exported_model_answers_as_in_evaluation(cell: Path, tmp_path: Path) -> None:
    model = Model.load(cell)
    write_folder(model, tmp_path, Facts(name="x"))
    rows = read_manifest(corpus() / "manifest.csv")
    rows = rows.where(lambda row: row.id == rows.ids[0])
    found = unheard.load(tmp_path).predict(rows.rows[0].audio).probabilities
    ours = [found[label] for label in model.labels]
    np.testing.assert_allclose(ours, evaluate(cell, rows).scores.probabilities[0], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no model here"),
        (["CELL", "--run", "nowhere"], "this folder holds no run"),
        (["CELL", "--run", "RUN", "--system", "x"], "not of 'x'"),
        (["CELL", "--manifest", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_errors_say_how_to_mend(
    arguments: list[str], message: str, done: Path, cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"CELL": str(cell), "RUN": str(done)}
    assert main(["export", *(names.get(word, word) for word in arguments), "-o", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "x").exists()
