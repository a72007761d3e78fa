"""Speaker leakage of a run's systems and of any trained model, and the extra run in which it can be measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.analysis.intervals import Spread
from unheard.analysis.speaker_leakage import FORMAT, Leakage, examine_embeddings
from unheard.corpora import read_manifest
from unheard.errors import ConfigError, FeatureError, Say, SplitError, TrainingError, UnheardError, counted, silent
from unheard.experiments.cell import versions
from unheard.experiments.evaluate import doubt_of, is_known, known_rows, score_model, trained_on
from unheard.experiments.records import RunRecords
from unheard.experiments.summary import SeedRecord
from unheard.features import FeatureStore, Normaliser
from unheard.features.normalise import TRANSDUCTIVE, pool
from unheard.files import json_text, markdown_table, write_json
from unheard.manifest import Manifest, choose_channel
from unheard.model.saving import Model
from unheard.splits.protocols import default_protocol, known_gender, make_split
from unheard.splits.speakers import is_unknown
from unheard.splits.split import Assigned, Split, identity_of

if TYPE_CHECKING:
    from unheard.experiments.config import Experiment

CACHE = "invariance.json"
FOLDER = "invariance"
LEAST_UNSEEN = 4  # minimum number of unseen speakers, dev and test together, of one network
_LEAST = 2  # minimum number of training, validation and test speakers
_TRIES = 200


# The table.

INPUT = "input features"
"""Name of the row of the input features: mean and standard deviation over time, after normalisation."""
UNSEEN = "unseen speakers"
HEADS = {
    "linear": "Speaker probe, linear",
    "mlp": "Speaker probe, MLP",
    "eer": "EER",
    "worst_uar": "Worst speaker's UAR",
    "mean_uar": "Mean of speakers' UAR",
    "spread_uar": "Best − worst",
    "gender_gap": "Women − men",
}
"""Figure -> column heading."""


@dataclass(frozen=True)
class LineLeakage:
    """A line of the tables: a measurement for each of the `seeds`; the input features have no seed."""

    name: str
    seeds: tuple[int, ...]
    each: tuple[Leakage, ...]

    def over_seeds(self, figure: str) -> Spread:
        """Return a figure of `HEADS` for each seed, without unknown values, such as with unknown genders."""
        values = (measured.estimate(figure).value for measured in self.each)
        return Spread(tuple(value for value in values if not math.isnan(value)))

    def shown(self, figure: str) -> str:
        """Format a figure in percent: mean ± standard deviation over seeds; with one seed, its interval if any."""
        spread, (_, low, high) = self.over_seeds(figure), self.each[0].estimate(figure)
        if spread.mean is None or len(self.each) > 1:
            return str(spread)
        return f"{100 * spread.mean:.1f}" + ("" if math.isnan(low) else f" [{100 * low:.1f}, {100 * high:.1f}]")


def markdown(lines: Mapping[str, LineLeakage], whose: str = UNSEEN) -> str:
    """Return the lines as a Markdown table in percent and points, followed by chance and the recordings."""
    table = markdown_table(["", *HEADS.values()], [[line.name, *map(line.shown, HEADS)] for line in lines.values()])
    return "\n".join([table, "", *explained(next(iter(lines.values())).each[0], whose)]) + "\n"


def explained(found: Leakage, whose: str = UNSEEN) -> Sequence[str]:
    """Return sentences on the recordings (of `whose`), on chance and on the intervals."""
    drawn = "" if found.examined == found.recordings else f" (probe and EER: a seeded draw of {found.examined})"
    same, different = found.pairs
    of_texts = "with different texts" if found.pair_texts == "different" else "with any texts"
    texts = f" and different texts ({found.texts} texts)" if found.disjoint == "texts" else ""
    parts = f"the probe is trained and tested on different recordings{texts or '; their texts may be the same'}"
    return [
        f"{counted(found.recordings, 'recording')} of {found.speakers} {whose}{drawn}; {parts}.",
        f"Chance {100 * found.chance:.1f} %, always the most frequent speaker {100 * found.majority:.1f} %; an EER of "
        f"50 % is chance ({same:,} pairs of one speaker and {different:,} of two, {of_texts}).",
        "Percent and points; [95 % interval] from resampling recordings, ± standard deviation over seeds.",
    ]


# Leakage of a run.


@dataclass(frozen=True)
class Unseen:
    """The dev and test rows of one direction of one fold, unseen by its trained network."""

    run: RunRecords
    fold: int
    direction: str
    rows: tuple[Assigned, ...]

    def column(self, name: str) -> list[str]:
        """Return a column of the run's utterances for every row."""
        return [self.run.utterances[row.id].get(name, "") for row in self.rows]


def unseen_of(run: RunRecords) -> Unseen | None:
    """Return the unseen speakers of RUN/invariance, else of the run's first fold; None if they are fewer than four.

    Only one fold and its first direction are used, because embedding spaces differ between networks. Speakers with a
    single recording are left out, since a probe cannot both train and test on it.
    """
    for source in filter(None, (run.invariance, run)):
        fold = source.folds[0]
        held = [row for row in source.splits if row.fold == fold and row.part != "train"]
        held = [row for row in held if row.direction == held[0].direction]
        counts = Counter(row.speaker for row in held)
        rows = tuple(row for row in held if counts[row.speaker] > 1)
        if len({row.speaker for row in rows}) >= LEAST_UNSEEN:
            return Unseen(source, fold, held[0].direction, rows)
    return None


def run_leakage(run: RunRecords, say: Say = silent) -> dict[str, LineLeakage]:
    """Return the speaker leakage of each line over its complete seeds, then of the input features; {} if unavailable.

    The lines are those of RUN/invariance if it exists. Figures are cached in RUN/invariance.json, also for runs without
    embeddings, and measured again only for trainings that have changed. Raises `MissingExtra` without scikit-learn.
    """
    unseen = unseen_of(run)
    if unseen is None:
        return {}
    cache = _Cache(run.folder / CACHE, unseen)
    lines = {}
    for line in unseen.run.lines:
        measured = {seed.seed: leakage for seed in line.seeds if (leakage := _of_seed(unseen, seed, cache, say))}
        if measured:
            lines[line.name] = LineLeakage(line.name, tuple(measured), tuple(measured.values()))
    of_input = _of_input(unseen, cache) if lines else None
    if of_input is not None:
        lines[INPUT] = LineLeakage(INPUT, (), (of_input,))
    return lines


def _of_seed(unseen: Unseen, seed: SeedRecord, cache: _Cache, say: Say) -> Leakage | None:
    cell = next(cell for cell in seed.cells if cell.fold == unseen.fold)

    def examine() -> Leakage | None:
        stored = cell.embeddings()
        if stored is None:
            return None
        embeddings, ids, parts = stored
        index = {key: i for i, key in reversed(list(enumerate(zip(parts, ids, strict=True))))}  # first direction
        if any((row.part, row.id) not in index for row in unseen.rows):
            return None
        e = embeddings[[index[row.part, row.id] for row in unseen.rows]]
        if not np.isfinite(e).all():
            say(f"{cell.name} has embeddings that are not finite: its training diverged, and it is left out")
            return None
        say(f"Speaker probe on {cell.name}")
        emotions: dict[tuple[str, str], tuple[int, int]] = {}
        for part, p in (("dev", seed.dev), ("test", seed.test)):
            selected = (p.folds == unseen.fold) & (np.array(p.directions) == unseen.direction)
            for i in np.flatnonzero(selected):
                emotions[part, p.ids[i]] = int(p.truth[i]), int(p.predicted[i])
        truth, predicted = zip(*(emotions[row.part, row.id] for row in unseen.rows), strict=True)
        speakers = [row.speaker for row in unseen.rows]
        return examine_embeddings(e, speakers, unseen.column("text"), unseen.column("gender"), truth, predicted)

    return cache.get([cell.name, str(cell.result["epochs"]), cell.digest], examine)


def _of_input(unseen: Unseen, cache: _Cache) -> Leakage | None:
    """Measure the leakage of the pooled input features; None if the feature store is missing."""
    run = unseen.run

    def examine() -> Leakage | None:
        speakers = {row.id: row.speaker for row in run.splits if row.fold == unseen.fold}
        store = _store(run)
        if store is None or any(name not in store for name in speakers):
            return None
        train = [row.id for row in run.splits if row.fold == unseen.fold and row.part == "train"]
        fitted = Normaliser(run.settings.normalise)
        fitted = fitted.fit(store, speakers if fitted.transductive else train, speakers)
        x = np.stack([pool(fitted.apply(store[row.id], row.speaker)) for row in unseen.rows])
        return examine_embeddings(x, [row.speaker for row in unseen.rows], unseen.column("text"))

    data = {str(cell.result.get("proof", {}).get("data", "")) for cell in run.cells if cell.fold == unseen.fold}
    key = [INPUT, run.split_digest, run.settings.normalise, run.settings.features.digest, *sorted(data)]
    return cache.get(key, examine)


def _store(run: RunRecords) -> FeatureStore | None:
    named = [Path(run.settings.store)] if run.settings.store else []
    for folder in (*named, run.folder / "features", run.folder.parent / "features"):
        with suppress(FeatureError):
            store = FeatureStore(folder)
            if store.settings == run.settings.features:
                return store
    return None


class _Cache:
    """Figures of the unseen speakers in a JSON file, by a hash of their origin."""

    def __init__(self, path: Path, unseen: Unseen) -> None:
        self.path, self.found = path, dict[str, Any]()
        with suppress(OSError, ValueError):
            read = json.loads(path.read_text(encoding="utf-8"))
            self.found = read if isinstance(read, dict) else {}
        about = zip(unseen.rows, unseen.column("text"), unseen.column("gender"), strict=True)
        self.rows = [(row.part, row.id, row.speaker, *more) for row, *more in about]

    def get(self, key: Sequence[str], examine: Callable[[], Leakage | None]) -> Leakage | None:
        """Return the cached figures for `key`, or call `examine` and cache its result."""
        words = ["\t".join(row) + "\n" for row in ((str(FORMAT), *key), *self.rows)]
        name = blake2b("".join(words).encode(), digest_size=16).hexdigest()
        if name in self.found:
            with suppress(KeyError, TypeError, ValueError):  # a damaged entry is measured again
                return Leakage.from_dict(self.found[name]["figures"])
        examined = examine()
        if examined is not None:
            self.found[name] = {"of": list(key[:2]), "figures": dataclasses.asdict(examined)}
            with suppress(UnheardError):  # without a cache, the next call is only slower
                write_json(self.path, self.found)
        return examined


# Leakage of any trained model, on any labelled manifest.


@dataclass(frozen=True)
class Probed:
    """Speaker leakage of a model's embeddings and of its input; `left_out` counts rows by reason.

    `whose` describes the speakers, such as "unseen speakers".
    """

    embeddings: Leakage
    input_features: Leakage
    left_out: Mapping[str, int]
    about: Mapping[str, Any]
    whose: str = UNSEEN
    transductive: bool = False

    def as_json(self) -> str:
        """Return all figures as JSON; an estimate is [value, low, high]."""
        plain = dataclasses.asdict(self)
        return json_text({**plain, "model": plain.pop("about"), "versions": versions()})

    def as_markdown(self) -> str:
        """Return a Markdown table with reference values, and the speakers with the lowest and highest UAR."""
        both = (("embeddings", self.embeddings), (INPUT, self.input_features))
        text = markdown({name: LineLeakage(name, (), (one,)) for name, one in both}, self.whose)
        text += f"\nThe model is {TRANSDUCTIVE}.\n" * self.transductive
        groups = self.embeddings.groups
        if groups is None:
            return text
        worst, best = groups.worst, groups.best
        if groups.spread > 0:
            text += (
                f"Worst speaker: {worst.speaker} ({counted(worst.recordings, 'recording')}, "
                f"{counted(worst.emotions, 'emotion')}), UAR {100 * worst.uar.value:.1f} %; "
                f"best: {best.speaker}, {100 * best.uar.value:.1f} %.\n"
            )
        else:
            text += f"Every speaker's UAR is {100 * worst.uar.value:.1f} %.\n"
        return text + f"{counted(groups.gender_unknown, 'speaker')} without gender.\n" * (groups.gender_unknown > 0)


def probe_model(
    model: str | Path,
    manifest: str | Path | Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str = "mix",
    seen: bool = False,
    store: str | Path | None = None,
    device: str = "auto",
    say: Say = silent,
) -> Probed:
    """Measure the speaker leakage of `model` (a file or a cell's folder) on the rows of `manifest`.

    Speakers that the model was trained on are left out and counted, unless `seen`, and so are speakers with a single
    recording. `channel` is mix, left, right or each; features are written to `store`, if given. Raises `UnheardError`
    if fewer than two speakers remain, or the model or the manifest cannot be used.
    """
    trained = Model.load(model)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest, mapping=mapping)
    labelled = known_rows(trained, table, mapping, say)
    known = trained_on(trained)
    if not known:
        say("warning: the model does not record its training speakers")
    named = labelled.where(lambda row: not is_unknown(row.speaker))
    if len(named) < len(labelled):
        say(f"{counted(len(labelled) - len(named), 'utterance')} of unknown speakers left out")
    rows = choose_channel(named, channel)
    # channels may become separate speakers with other names, so the table's names are looked up first
    trained_rows = choose_channel(table.where(lambda row: is_known(row, known)), channel)
    training_speakers = {row.full_name for row in rows if is_known(row, known)}
    training_speakers |= {row.full_name for row in trained_rows}
    unseen = rows if seen else rows.where(lambda row: row.full_name not in training_speakers)
    if len(unseen) < len(rows):
        share = f"{len(rows) - len(unseen)} of {len(rows)}"
        say(f"left out, of speakers the model was trained on: {share} utterances{doubt_of(training_speakers, known)}")
    _at_least_two(unseen, "that the model was not trained on" if known and not seen else "in the manifest", known, seen)
    with score_model(trained, unseen, store=store, device=device, say=say) as scored:
        counts = Counter(row.speaker for row in scored.rows)
        places = [i for i, row in enumerate(scored.rows) if counts[row.speaker] > 1]
        single = len(scored.rows) - len(places)
        if single:
            say(f"{counted(single, 'speaker')} with one recording left out")
        kept = Manifest(tuple(scored.rows[i] for i in places))
        _at_least_two(kept, "with two recordings or more", known, seen=True)
        speakers, texts = kept.column("speaker"), kept.column("text")
        say(f"Probing {kept.size}")
        scores = scored.scores
        truth, predicted = (list(map(int, labels[places])) for labels in (scores.truth, scores.predicted))
        genders = kept.column("gender")
        embeddings = examine_embeddings(scores.embeddings[places], speakers, texts, genders, truth, predicted)
        inputs = examine_embeddings(np.stack([pool(scored.frames[name]) for name in kept.ids]), speakers, texts)
    among = len(training_speakers & {row.full_name for row in kept})
    left_out = {
        "label unknown": len(table) - len(labelled),
        "speaker unknown": len(labelled) - len(named),
        **({} if seen else {"speaker trained on": len(rows) - len(unseen)}),
        "not usable": len(unseen) - len(scored.rows),
        "only recording of its speaker": single,
    }
    whose = f"speakers ({among} of them trained on)" if among else UNSEEN if known else "speakers"
    return Probed(embeddings, inputs, left_out, trained.about, whose, trained.normaliser.transductive)


def _at_least_two(rows: Manifest, which: str, known: set[str], seen: bool) -> None:
    if len(rows.speakers) < 2:
        also = "" if seen or not known else ", or --seen to examine those it was trained on too"
        what = f"a speaker probe needs at least 2 speakers {which}, found {len(rows.speakers)}"
        raise TrainingError(what, mend=f"Give recordings of more speakers{also}.")


# The run in RUN/invariance, for splits with too few unseen speakers.


def _held_out(split: Split) -> list[str]:
    """Return the speaker of every recording held out by the first direction of the first fold."""
    direction = split.folds[0].directions[0]
    speaker = {row.id: row.speaker for row in split.manifest}
    return [speaker[name] for name in (*direction.dev, *direction.test)]


def _serves(split: Split) -> bool:
    """Return whether the first fold has enough unseen speakers with more than one recording."""
    return sum(recordings > 1 for recordings in Counter(_held_out(split)).values()) >= LEAST_UNSEEN


def sub_run_settings(settings: Experiment, manifest: Manifest) -> Experiment | None:
    """Return the settings of the run in RUN/invariance, or None if the first fold has at least four unseen speakers.

    It is the same experiment (systems, seeds, recipe, feature store) on a seeded `random` split with as many validation
    and test speakers as in a part of the corpus's usual `kfold` (EmoDB: 6 / 2 / 2). The split seed is the first one,
    starting with the run's, that holds out the genders in the corpus's proportions. `manifest` has the rows in use.
    Raises `ConfigError` for fewer than six speakers.
    """
    from unheard.experiments.plan import choose_split

    if _serves(choose_split(settings, manifest)):
        return None
    groups = {identity_of(row, settings.group) for row in manifest}
    usual, options = default_protocol(settings.corpus, manifest)
    parts = int(str(options["k"])) if usual == "kfold" else 5
    held = max(_LEAST, round(len(groups) / parts))
    if len(groups) < 2 * held + _LEAST:
        raise ConfigError(
            f"invariance needs at least {2 * held + _LEAST} values of '{settings.group}', {_LEAST} each to train, "
            f"validate and test, not {len(groups)}",
            mend="Leave out --invariance, or take a corpus with more speakers.",
        )
    sizes = (len(groups) - 2 * held, held, held)
    seed = _balanced_seed(manifest, settings.group, sizes, settings.split_seed)
    out, store = Path(settings.out) / FOLDER, settings.store or Path(settings.out) / "features"
    split: dict[str, Any] = {"protocol": "random", "test": "both", "n": sizes, "split_seed": seed, "folds": 0, "k": 0}
    split |= {"column": "", "train_corpora": (), "test_corpora": (), "validation": "held-out"}
    return dataclasses.replace(settings, out=str(out), store=str(store), invariance=False, **split)


def _balanced_seed(manifest: Manifest, group: str, sizes: tuple[int, int, int], first: int) -> int:
    """Return the first split seed, starting with `first`, that holds out the genders in the corpus's proportions.

    If none of `_TRIES` seeds does, return the first with a valid split. If a gender is unknown, any proportion is
    accepted.
    """
    gender = {row.speaker: known_gender(row.gender) for row in manifest}
    women = list(gender.values()).count("female") / len(gender)
    possible: list[int] = []
    for seed in range(first, first + _TRIES):
        try:
            split = make_split(manifest, "random", group=group, n=sizes, seed=seed)
        except SplitError as error:
            refused = error
            continue
        possible.append(seed)
        held = [gender[name] for name in set(_held_out(split))]
        proportionate = "" in gender.values() or abs(held.count("female") - len(held) * women) < 1
        if _serves(split) and proportionate:
            return seed
    if not possible:
        raise refused
    return possible[0]
