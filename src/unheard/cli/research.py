"""Verbs that train, evaluate, compare, report and export; settings of experiments are flags, or in a YAML file."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from cyclopts import Parameter, Token

from unheard.cli import common as cli
from unheard.errors import ConfigError
from unheard.experiments.config import Experiment, load, reference
from unheard.settings import described, hints_of

if TYPE_CHECKING:
    from unheard.experiments.run import Run


def _flags(kind: type, name: str, leave_out: tuple[str, ...] = (), **defaults: str) -> type:
    """Make a dataclass with the settings of `kind`, all optional: None if the command line gives no value.

    `defaults` are shown in place of those of the settings.
    """
    fields: list[Any] = []
    if kind is Experiment:
        epochs = Parameter(help="Short for --training.epochs.", show=False, converter=_integer)
        fields.append(("epochs", Annotated[int | None, epochs], dataclasses.field(default=None)))
    for field in dataclasses.fields(kind):
        hint: Any = hints_of(kind)[field.name]
        flags = field.metadata["json_schema_extra"]
        nested = dataclasses.is_dataclass(hint)
        if field.name in leave_out or flags["derived"] or field.name == "tdnn":  # no flag for tuples of tuples
            continue
        converter = _integer if hint in (int, int | None) else None
        texts: dict[str, Any] = {
            "help": described(field, hint, defaults.get(field.name, field.default)),
            "show": nested or flags["common"],
        }
        parameter = Parameter(**texts, show_default=False, converter=converter)
        if nested:
            hint = _flags(typing.cast(type, hint), field.name)
        elif hint not in (bool, int, float, int | None):
            hint = str  # lists and pairs are separated by commas; `load` splits them
        fields.append((field.name, Annotated[hint | None, parameter], dataclasses.field(default=None)))
    result = dataclasses.make_dataclass(name, fields, frozen=True)
    result.__module__ = __name__  # cyclopts does not expand a class of the module `types` into flags
    return result


def _integer(_: object, tokens: Sequence[Token]) -> int:
    """Convert a whole number; 2.7 is refused, as in a YAML file."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value} is not a whole number") from None


def _values(flags: Any) -> dict[str, Any]:
    """Return the values given on the command line, nested as in a YAML file."""
    values = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    nested = {name: _values(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
    return {name: value for name, value in nested.items() if value is not None and value != {}}


def _parse_options(words: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Parse `dat.lam=0.3` as {"dat": {"lam": 0.3}}."""
    options: dict[str, dict[str, Any]] = {}
    for word in words:
        path, sign, value = word.partition("=")
        system, dot, name = path.partition(".")
        try:
            if not (sign and dot and system and name):
                raise ValueError
            options.setdefault(system, {})[name.replace("-", "_")] = yaml.safe_load(value)
        except (ValueError, yaml.YAMLError):
            raise ConfigError(f"option '{word}' is not SYSTEM.NAME=VALUE", mend="Write --option dat.lam=0.3.") from None
    return options


Flags = _flags(Experiment, "Flags", leave_out=("options",))
TrainFlags = _flags(
    Experiment, "TrainFlags", leave_out=("options", "systems", "folds", "seeds", "tune", "trials", "space")
)
StarterFlags = _flags(
    Experiment,
    "StarterFlags",
    ("options", "out", "protocol", "test", "k", "n", "column", "train_corpora", "test_corpora", "folds", "seeds",
     "tune", "trials", "space", "invariance"),
    systems="ser",
)  # fmt: skip
Config = Annotated[
    Path | None,
    cli.option("YAML file with the same settings, whose paths are relative to its folder; flags override it."),
]
DryRun = Annotated[bool, cli.switch("Extract the features, print the number of trainings, and stop.")]
HelpAll = Annotated[bool, cli.switch("Print every setting and stop.")]
_OPTION = "Option of one system, such as dat.lam=0.3 or cgt.epsilon=0.1; may be repeated."
SystemOptions = Annotated[tuple[str, ...], cli.option(_OPTION, name="--option", negative="")]


def _settings(
    config: Path | None, flags: Any, option: tuple[str, ...], defaults: Mapping[str, Any] | None = None, **fixed: Any
) -> Experiment:
    overrides = {**_values(flags), **fixed, **({"options": _parse_options(option)} if option else {})}
    return load(config, overrides, defaults or {}, cli.say)


def _carried_out(settings: Experiment) -> Run:
    from unheard.experiments.run import run_experiment

    run = run_experiment(settings, cli.say)
    for name, reason in run.failed.items():
        cli.say(f"failed: {name}: {reason}")
    return run


def experiment(
    *,
    config: Config = None,
    option: SystemOptions = (),
    dry_run: DryRun = False,
    help_all: HelpAll = False,
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # type: ignore[valid-type]  # noqa: B008 - frozen
) -> int:
    """Compare systems over folds and seeds on speakers not used for training.

    Example: unheard experiment --preset emodb --root data/emodb --systems ser,dat --out RUN

    Writes RUN/table.md, results.csv, splits.csv, config.yaml and a folder for every training. A repeated call does only
    what is missing; with more --epochs, trainings continue, unless the learning rate follows a schedule. Below are the
    most common settings, with the defaults where neither preset nor recipe sets a value; --help-all prints all
    settings. Exits with 1 if a training failed.
    """
    if help_all:
        print(reference(), end="")
        return 0
    settings = _settings(config, flags, option)
    if dry_run:
        from unheard.experiments.run import describe_trainings

        print(describe_trainings(settings, cli.say))
        return 0
    run = _carried_out(settings)
    sys.stdout.write(run.table)
    return int(bool(run.failed))


def train(
    system: str = "ser",
    /,
    *,
    config: Config = None,
    option: SystemOptions = (),
    help_all: HelpAll = False,
    flags: Annotated[TrainFlags, Parameter(name="*")] = TrainFlags(),  # type: ignore[valid-type]  # noqa: B008 - frozen
) -> int:
    """Train one system on the first fold with seed 0, and print the path of its model.

    Example: unheard train dat --manifest my.csv --protocol random --out RUN

    Below are the most common settings, with the defaults where neither preset nor recipe sets a value; --help-all
    prints all settings.

    Parameters
    ----------
    system
        ser (SER_only), mtl, dat or cgt.
    """
    if help_all:
        print(reference(), end="")
        return 0
    from unheard.experiments.baselines import CLASSICAL_SYSTEMS

    if system in CLASSICAL_SYSTEMS:
        mend = f"Compare with it: unheard experiment --systems ser,{system} ..."
        raise ConfigError(f"system '{system}' is a baseline and leaves no model", mend=mend)
    fixed: dict[str, Any] = {"systems": (system,), "folds": 1, "seeds": 1, "tune": ""}
    run = _carried_out(_settings(config, flags, option, **fixed))
    if not run.failed:
        sys.stdout.write("\n".join([run.table.rstrip(), *map(str, run.models), ""]))
    return int(bool(run.failed))


def starter(
    *,
    output: Annotated[Path, cli.output_option("Folder of the model.")],
    runs: Annotated[Path, cli.option("Folder of the experiments.")] = Path("starter"),
    name: Annotated[str, cli.option("Name of the model.")] = "starter",
    licence: Annotated[str, cli.option("Licence of the weights; the licences of the corpora may restrict it.")] = "",
    folds: Annotated[int, cli.option("Folds of the cross-validation.")] = 5,
    int8: Annotated[
        bool, cli.option("Also write 8-bit weights; for a pretrained encoder, in place of the 32-bit ones.")
    ] = True,
    config: Config = None,
    option: SystemOptions = (),
    help_all: HelpAll = False,
    flags: Annotated[StarterFlags, Parameter(name="*")] = StarterFlags(),  # type: ignore[valid-type]  # noqa: B008 - frozen
) -> None:
    """Train, measure and export a model on corpora or a manifest of your own.

    Example: unheard starter --corpus emodb,ravdess --root data/emodb,data/ravdess -o my-model

    Cross-validates one system by speaker, leaves each corpus out in turn, trains the final model on nearly all
    speakers, and writes it as ONNX with a card of the measured accuracy. An interrupted call is resumed. Below are the
    most common settings, with the defaults where neither preset nor recipe sets a value; --help-all prints all.
    """
    if help_all:
        print(reference(), end="")
        return
    from unheard.export.starter import make_starter

    defaults = {"systems": ("ser",)}
    settings = _settings(config, flags, option, defaults, out=str(runs))
    make_starter(output, settings, name=name, licence=licence, folds=folds, int8=int8, say=cli.say)
    print(output)


# What has been trained.

OutputFile = Annotated[Path | None, cli.output_option("File to write instead of standard output.")]


def evaluate(
    model: cli.TrainedModel,
    manifest: cli.LabelledTable,
    /,
    *,
    output: Annotated[Path | None, cli.output_option("Folder for predictions.csv and result.json.")] = None,
    map: cli.Map = "",
    channel: cli.Channel = "mix",
    store: cli.Store = None,
    device: cli.Device = "auto",
) -> None:
    """Score a trained model on a labelled manifest: WA, UAR, macro-F1, recall per emotion, confusion matrix.

    Example: unheard evaluate RUN/cells/dat-fold0-seed0-1051edb3 other.csv
    """
    from unheard.experiments.evaluate import evaluate as run

    mapping = cli.split_pairs(map)
    done = run(
        model, manifest, mapping=mapping, channel=channel, folder=output, store=store, device=device, say=cli.say
    )
    print(done.text)


def report(
    run: cli.RunPath, /, *, output: Annotated[Path | None, cli.output_option("Folder to write (default: RUN).")] = None
) -> None:
    """Write the report of a run: tables, tests, figures, and the protocol with its checks.

    Example: unheard report RUN -o report

    Writes report.html (one file, works offline), report.md, tables/ (LaTeX) and figures/ (SVG, PDF, PNG). Reads only
    the folder of the run: neither the corpus nor a model is needed, and nothing is trained.
    """
    from unheard.report import write_report

    print(write_report(run, output, say=cli.say))


def compare(
    run_a: cli.RunPath,
    run_b: cli.RunPath,
    /,
    *,
    format: Annotated[
        Literal["md", "json"], cli.option("md (tables), or json (also with each speaker's part in the differences).")
    ] = "md",
    output: OutputFile = None,
) -> None:
    """Compare two runs: each system in both, and a test of the difference B - A over the test speakers.

    Example: unheard compare runs/emodb runs/emodb-no-dropout

    Both runs need the same split, labels and data; other settings that differ are listed.
    """
    from unheard.experiments.records import read_run
    from unheard.report.comparison import compare_runs, to_json, to_markdown

    comparison = compare_runs(read_run(run_a), read_run(run_b))
    cli.emit({"md": to_markdown, "json": to_json}[format](comparison), output)


def contrast(
    run: cli.RunPath,
    /,
    *more: Annotated[Path, cli.option("Folders of runs on other corpora; the mean difference is tested as well.")],
    baseline: Annotated[str, cli.option("System to compare the others with.")] = "ser",
    speakers: Annotated[
        str,
        cli.option(
            "FILE:PART: only test speakers that have this part in a table with the columns corpus,speaker,part."
        ),
    ] = "",
    decision: Annotated[
        str,
        cli.option(
            "Apply another decision rule (--training.decision) to networks trained without one: both (maximise mean "
            "of WA and UAR) or even (maximise UAR)."
        ),
    ] = "",
) -> None:
    """Test every system of a finished run against a baseline, on all or some test speakers.

    Example: unheard contrast RUN --baseline svm
    """
    from unheard.report.comparison import contrast_runs

    sys.stdout.write(contrast_runs(run, *more, baseline=baseline, speakers=speakers, decision=decision))


def probe(
    model: cli.TrainedModel,
    manifest: cli.LabelledTable,
    /,
    *,
    seen: Annotated[bool, cli.switch("Include the speakers that the model was trained on.")] = False,
    format: Annotated[Literal["md", "json"], cli.option("md (tables), or json (all figures, per speaker).")] = "md",
    output: Annotated[Path | None, cli.output_option("File to write instead of standard output.", "--out")] = None,
    map: cli.Map = "",
    channel: cli.Channel = "mix",
    store: cli.Store = None,
    device: cli.Device = "auto",
) -> None:
    """Measure how much speaker information a model's embeddings keep, and which speakers the model serves badly.

    Example: unheard probe RUN/cells/dat-fold0-seed0-1051edb3 other.csv

    A new classifier learns to recognise speakers, which the model was not trained on, from their embeddings. Also
    reported: speaker verification, emotion recall of the worst speaker, the gap between women and men, and the same
    figures for the input features.
    """
    from unheard.experiments.leakage import probe_model

    cli.refuse_overwriting(output, manifest)
    probed = probe_model(
        model,
        manifest,
        mapping=cli.split_pairs(map),
        channel=channel,
        seen=seen,
        store=store,
        device=device,
        say=cli.say,
    )
    cli.emit(probed.as_markdown() if format == "md" else probed.as_json(), output)


def adapt(
    run: cli.RunPath,
    /,
    *,
    k: Annotated[
        str, cli.option("Numbers of adaptation utterances; all adapts to the scored utterances (transductive).")
    ] = "0,1,4,16,all",
    draws: Annotated[int, cli.option("Random draws of the utterances to average over.")] = 5,
) -> None:
    """Score the test speakers of a run after adapting to k of their utterances, without labels.

    Example: unheard adapt RUN

    Writes RUN/adaptation.csv and RUN/adaptation.md; trains nothing. The utterances used for adaptation are drawn at
    random (seeded) and not scored.
    """
    from unheard.experiments.adaptation import ALL
    from unheard.experiments.adaptation import adapt as measure

    sizes = cli.split_list(k)
    if draws < 1 or not sizes or not all(word == "all" or word.isdigit() for word in sizes):
        raise ConfigError(f"k = {k} or draws = {draws} is invalid", mend="Write --k 0,1,4,16,all --draws 5.")
    numbers = [ALL if word == "all" else int(word) for word in sizes]
    sys.stdout.write(measure(run, sizes=numbers, draws=draws, say=cli.say))


def export(
    model: cli.TrainedModel,
    /,
    *,
    output: Annotated[Path, cli.output_option("Folder to write: model.onnx, README.md (the model card), config.json.")],
    run: Annotated[
        Path | None,
        cli.option(
            "Run with the same settings: its validation speakers calibrate the model, its test speakers score it."
        ),
    ] = None,
    system: Annotated[str, cli.option("System of the run, if the model is not one of its trainings.")] = "",
    int8: Annotated[bool, cli.switch("Also write model.int8.onnx with 8-bit weights, a quarter of the size.")] = False,
    manifest: Annotated[Path | None, cli.option("Labelled recordings to test model.int8.onnx on.")] = None,
    name: Annotated[str, cli.option("Name of the model (default: that of its training).")] = "",
    licence: Annotated[str, cli.option('Licence of the weights, such as "CC BY-NC-SA 4.0".')] = "",
    push: Annotated[str, cli.option("Also upload it to OWNER/NAME on the Hugging Face hub, created private.")] = "",
) -> None:
    """Write a trained model as an ONNX file with its model card, which `unheard predict` opens without PyTorch.

    Example: unheard export RUN/cells/dat-fold0-seed0-1051edb3 -o my-model --run RUN --int8 --manifest other.csv

    The exported model is checked against PyTorch before it is written.
    """
    from unheard.export.folder import export as write
    from unheard.recogniser import hub

    if push:
        hub.check(push)
    write(model, output, name=name, licence=licence, run=run, system=system, int8=int8, manifest=manifest, say=cli.say)
    for file in sorted(output.glob("*.onnx")):
        cli.say(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
    print(output)
    if push:
        print(hub.push(output, push))
