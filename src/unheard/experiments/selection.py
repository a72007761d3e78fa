"""Selection of settings by each fold's validation speakers, on seed 0; the chosen settings are kept for all seeds.

Each direction of a fold takes the settings with the best accuracy on its validation speakers; test results are never
read. Every system has the same budget: `grid` tries four values of λ or ε, `optuna` a number of trials of any settings.
The study of a direction uses only its own validation speakers, since those of others may be its test speakers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unheard.errors import ConfigError, did_you_mean, needs
from unheard.experiments.baselines import FITTED
from unheard.experiments.cell_files import result_in
from unheard.experiments.config import SPACE, Experiment, keys
from unheard.files import csv_text, write_text

if TYPE_CHECKING:
    from unheard.experiments.plan import Cell


@dataclass(frozen=True)
class Knob:
    """The tuned option of a system: its name, symbol, fixed value, and the values to try."""

    option: str
    symbol: str
    fixed: float
    grid: tuple[float, ...]


KNOBS = {
    "dat": Knob("lam", "λ", 0.1, (0.03, 0.1, 0.3, 1.0)),
    "cgt": Knob("epsilon", "ε", 0.3, (0.03, 0.1, 0.3, 1.0)),
}
"""System -> its tuned option; ε is in input standard deviations (RMS)."""


@dataclass(frozen=True)
class Choice:
    """The result of a value on the validation speakers of one direction of a fold, seed 0, and whether it is chosen.

    `value` is a number of the grid, or a trial such as `training.lr=0.003,options.dat.lam=0.3`.
    """

    system: str
    fold: int
    direction: str
    value: float | str
    val_wa: float
    val_uar: float
    evaluation: str = ""
    chosen: bool = False

    @property
    def place(self) -> tuple[str, int, str, str]:
        """The system, fold, direction and evaluation of the choice."""
        return self.system, self.fold, self.direction, self.evaluation

    @property
    def searched(self) -> bool:
        """Whether the value is a trial of a search, not a value of the grid."""
        return isinstance(self.value, str)


def choose(candidates: Iterable[Choice]) -> tuple[Choice, ...]:
    """Return the candidates on the grid, by system, fold, direction and value, with the best ones chosen.

    A direction with a missing value of the grid has no choice, since its budget would be smaller.
    """
    groups: dict[tuple[str, int, str, str], dict[Any, Choice]] = {}
    for candidate in candidates:
        if candidate.value in KNOBS[candidate.system].grid:
            groups.setdefault(candidate.place, {})[candidate.value] = candidate
    rows = []
    for (system, *_), tried in groups.items():
        complete = set(tried) == set(KNOBS[system].grid)
        best = max(tried, key=lambda value: (tried[value].val_wa, -value)) if complete else None
        rows += [replace(candidate, chosen=value == best) for value, candidate in sorted(tried.items())]
    order = list(KNOBS)
    # a stable sort keeps directions in the split's order
    return tuple(sorted(rows, key=lambda c: (order.index(c.system), c.evaluation, c.fold)))


# Trainings for a choice: every value on seed 0, then the chosen values on the other seeds.


def check_tuning(settings: Experiment) -> None:
    """Raise `ConfigError` for a choice that is impossible with any corpus, and `MissingExtra` without Optuna."""
    if settings.tune == "optuna":
        _check_search(settings)
    if settings.tune != "grid":
        return
    if not set(settings.systems) & set(KNOBS):
        what = f"there is nothing to choose for {', '.join(settings.systems)}"
        raise ConfigError(what, mend=f"Add {' or '.join(KNOBS)} to --systems, or leave out --tune.")
    mode = settings.options.get("cgt", {}).get("eps_mode", "rms")
    if "cgt" in settings.systems and mode != "rms":
        raise ConfigError(
            f"ε is chosen among RMS values, not with eps_mode = {mode}", mend="Leave out --option cgt.eps_mode."
        )


def candidates(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells on seed 0 of every fold and value of the grid that are not among `cells`."""
    present = {cell.name for cell in cells}
    tuned = [cell for cell in cells if cell.seed == 0 and cell.system in KNOBS]
    others = [_at(cell, value) for cell in tuned for value in KNOBS[cell.system].grid]
    return [other for other in others if other.name not in present]


def frozen(cells: Sequence[Cell], choices: Sequence[Choice], settings: Experiment) -> list[Cell]:
    """Return the cells on seeds after 0 with the values chosen for their fold that are not among `cells`."""
    present = {cell.name for cell in cells}
    others = [
        _tried(cell, settings, choice.value) if isinstance(choice.value, str) else _at(cell, choice.value)
        for cell in cells
        for choice in choices
        if cell.seed > 0 and choice.chosen and (choice.system, choice.fold) == (cell.system, cell.fold.index)
    ]
    return list({other.name: other for other in others if other.name not in present}.values())


def waiting(cells: Iterable[Cell], choices: Iterable[Choice], searched: bool) -> int:
    """Count the choices for tuned `cells` that cannot be made because trainings failed."""
    tuned = [cell for cell in cells if (not cell.fitted if searched else cell.system in KNOBS)]
    asked = {(cell.system, cell.fold.index) for cell in tuned}
    tried = [choice for choice in choices if (choice.system, choice.fold) in asked]
    open_places = {choice.place for choice in tried} - {choice.place for choice in tried if choice.chosen}
    return len(open_places) + len(asked - {(choice.system, choice.fold) for choice in tried})


def _at(cell: Cell, value: float) -> Cell:
    return replace(cell, settings=_with(cell.settings, f"options.{cell.system}.{KNOBS[cell.system].option}", value))


def _with(tree: Any, path: str, value: Any) -> Any:
    """Return a copy of the settings `tree` with `value` at the dotted `path`."""
    name, _, rest = path.partition(".")
    held = tree.get(name, {}) if isinstance(tree, Mapping) else getattr(tree, name)
    if rest:
        value = _with(held, rest, value)
    elif isinstance(held, float) and isinstance(value, int):
        value = float(value)  # 1 and 1.0 identify the same training
    return {**tree, name: value} if isinstance(tree, Mapping) else replace(tree, **{name: value})


# A search with Optuna: every trial is an ordinary training in a separate folder.

TRIALS = "trials.csv"
STARTUP = 10  # random trials, trained together, before a study uses results; Optuna's default

UNSEARCHED = ("training.epochs", "training.updates", "training.report_epochs", "training.copies", "training.batchnorm")
"""Settings that cannot be searched: the length of a training, its feature stores and its evaluations."""


def applied(settings: Experiment, trial: str) -> Experiment:
    """Return the settings with the values of a trial."""
    for key, _, word in (pair.partition("=") for pair in trial.split(",") if pair):
        settings = _with(settings, key, _value(word))
    return settings


def search(
    settings: Experiment, cells: Iterable[Cell], train: Callable[[Sequence[Cell]], object]
) -> tuple[Choice, ...]:
    """Run a study for each system, fold, direction and evaluation; return all trials with the best ones chosen.

    `train` trains cells without a result. The sampler is seeded by the fold, so that a repeated search has the same
    trials and trains only missing cells. A failed trial counts as tried and is never chosen.
    """
    optuna = _optuna()
    spaces = {system: _space(settings, system) for system in settings.systems if system not in FITTED}
    studies = {}
    for cell in (cell for cell in cells if cell.seed == 0 and not cell.fitted):
        for evaluation in cell.settings.training.evaluations:
            for direction in cell.fold.directions:
                sampler = optuna.samplers.TPESampler(seed=cell.fold.index, n_startup_trials=STARTUP)
                place = cell.system, cell.fold.index, direction.name, evaluation
                studies[place] = cell, optuna.create_study(direction="maximize", sampler=sampler)
    trials: dict[tuple[str, int, str, str], list[Choice]] = {place: [] for place in studies}
    first = min(STARTUP, settings.trials)
    for asked in [first, *[1] * (settings.trials - first)]:
        batch = []
        for place, (cell, study) in studies.items():
            for _ in range(asked):
                trial = study.ask(spaces[cell.system])
                text = ",".join(f"{key}={_word(value)}" for key, value in trial.params.items())
                batch.append((place, study, trial, _tried(cell, settings, text)))
        train(list({cell.name: cell for *_, cell in batch}.values()))
        for place, study, trial, cell in batch:
            scores = _validation(cell, *place[2:])
            study.tell(trial, scores and scores[0], state=None if scores else optuna.trial.TrialState.FAIL)
            if scores:
                trials[place].append(Choice(*place[:3], cell.trial, *scores, place[3]))
    best = {id(max(tried, key=lambda choice: choice.val_wa)) for tried in trials.values() if tried}  # first on a tie
    return tuple(replace(choice, chosen=id(choice) in best) for tried in trials.values() for choice in tried)


def write_trials(out: Path, trials: Sequence[Choice]) -> None:
    """Write the trials of a search; trials of other systems and folds from earlier calls are kept."""
    places = {trial.place for trial in trials}
    every = [*(trial for trial in read_trials(out) if trial.place not in places), *trials]
    write_text(out / TRIALS, csv_text([[field.name for field in fields(Choice)], *map(astuple, every)]))


def read_trials(out: Path) -> tuple[Choice, ...]:
    """Read the trials of a search; () without a search."""
    if not (out / TRIALS).exists():
        return ()
    with (out / TRIALS).open(newline="", encoding="utf-8") as file:
        return tuple(
            Choice(
                row["system"], int(row["fold"]), row["direction"], row["value"], float(row["val_wa"]),
                float(row["val_uar"]), row["evaluation"], row["chosen"] == "True",
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


def _tried(cell: Cell, settings: Experiment, trial: str) -> Cell:
    """Return the cell with the values of a trial; `settings` are the experiment's, without the limit on epochs."""
    tried = applied(settings, trial)
    return replace(cell, settings=replace(tried, training=tried.training.limited(len(cell.fold.train))), trial=trial)


def _validation(cell: Cell, direction: str, evaluation: str) -> tuple[float, float] | None:
    """Return WA and UAR on the validation speakers, or None without a result."""
    if cell.result() is None:
        return None
    results = map(result_in, (cell.result_folder(), cell.result_folder() / "reestimated"))
    figures = next(result["directions"][direction] for result in results if result.get("evaluation") == evaluation)
    return figures["val_wa"], figures["val_uar"]


def _optuna() -> Any:
    with needs("optuna", "tune"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _check_search(settings: Experiment) -> None:
    """Check settings with every key of the space at its ends."""
    from unheard.experiments.plan import check_settings

    _optuna()
    if set(settings.systems) <= set(FITTED):
        raise ConfigError(f"there is nothing to search for {', '.join(settings.systems)}", mend="Leave out --tune.")
    for system in (system for system in settings.systems if system not in FITTED):
        space = _space(settings, system)
        if not space:
            what = f"the space has no key of {system}, so that its budget would be smaller than the others'"
            raise ConfigError(what, mend="Add a key of training or network to --space, or leave out the system.")
        for key, values in space.items():
            for end in values.choices if hasattr(values, "choices") else (values.low, values.high):
                check_settings(applied(settings, f"{key}={_word(end)}"))


def _space(settings: Experiment, system: str) -> dict[str, Any]:
    """Return key -> Optuna distribution for a system: all keys except options of other systems."""
    from unheard.training.strategies import STRATEGIES, strategy_of

    tree = [entry for entry in keys() if entry[0].startswith(("network.", "training.")) and entry[0] not in UNSEARCHED]
    for name in dict.fromkeys([*STRATEGIES, system]):
        options = strategy_of(name)[2]
        tree += keys(options, f"options.{name}.") if options else ()
    hints = {key: hint for key, _, hint in tree if not is_dataclass(hint)}
    space = {key.replace("-", "_"): ends for key, ends in (settings.space or SPACE).items()}
    if unknown := next((key for key in space if key not in hints), ""):
        raise ConfigError(f"'{unknown}' is not a setting that can be searched", mend=did_you_mean(unknown, hints))
    usable = [key for key in space if not key.startswith("options.") or key.startswith(f"options.{system}.")]
    return {key: _distribution(key, space[key], hints[key]) for key in usable}


def _distribution(key: str, text: str, hint: Any) -> Any:
    from optuna import distributions

    low, _, rest = text.partition(":")
    high, _, log = rest.partition(":")
    try:
        if "|" in text:
            return distributions.CategoricalDistribution([_value(word) for word in text.split("|")])
        if log not in ("", "log"):
            raise ValueError(f"'{log}' should be 'log'")
        if hint in (int, int | None):
            return distributions.IntDistribution(int(low), int(high), log=bool(log))
        return distributions.FloatDistribution(float(low), float(high), log=bool(log))
    except ValueError as error:
        mend = "Write KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A|B|C."
        raise ConfigError(f"'{key}={text}' cannot be searched ({error})", mend=mend) from None


def _value(word: str) -> Any:
    """Return a number or a truth value if `word` is one, else the text."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def _word(value: Any) -> str:
    """Return the text of a value, the inverse of `_value`; numbers have four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
