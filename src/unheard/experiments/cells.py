"""One cell of an experiment: a system on a fold with a seed, in a folder of its own.

    CELL/result.json      figures, proof (digests, versions, seeds, counts), timings last
    CELL/predictions.csv  id, speaker, part, emotion, predicted, p_<label>…
    CELL/embeddings.npz   e (B, E) of the same utterances
    CELL/history.jsonl    a line an epoch
    CELL/model.safetensors  what recognises emotions, and nothing else

The folder's name ends with a hash of all that decides its numbers; state is files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

from unheard.errors import TrainingError
from unheard.experiments.choice import SEEN
from unheard.experiments.fitted import Fitted
from unheard.experiments.folder import epochs_of, place_of, read_predictions, result_in
from unheard.features import FeatureStore
from unheard.manifest import Utterance
from unheard.splits import Fold
from unheard.training.network import NetworkSettings
from unheard.training.recipe import DECISIONS, SELECT, STATISTICS, Recipe, follows_a_schedule
from unheard.training.strategies import resolve_options

FORMAT = 3
"""Part of every cell's hash; raised when the same settings give other numbers than before."""


@dataclass(frozen=True)
class Cell:
    """Everything that decides a cell's numbers, and where it lives.

    `rows` are the utterances of the fold (train, dev, test); `folder` is the cell's own. `features` is the digest of
    the experiment's feature settings, which `data` covers. A classical system says in `fitted` what it is; `store`
    is its own then. `weights_from` is another run that may have trained the same.
    """

    system: str
    options: Mapping[str, Any]
    fold: Fold
    seed: int
    rows: Mapping[str, Utterance]
    labels: tuple[str, ...]
    group: str
    network: NetworkSettings
    recipe: Recipe
    normalise: str
    store: Path
    out: Path
    split: str
    data: str
    device: str = "auto"
    tensorboard: bool = False
    features: str = ""
    fitted: Fitted | None = None
    weights_from: Path | None = None

    def check(self, store: FeatureStore) -> None:
        """Raises `TrainingError` where a store, shared with another experiment perhaps, is of other recordings now."""
        absent = next((name for name in self.rows if name not in store), None)
        now = absent is None and data_digest(self.fold, self.rows, store.audio_digest, self.features, self.group)
        if now != self.data:
            raise TrainingError(
                "the features in this store are not those that the experiment was laid out with"
                + (f": '{absent}' has none" if absent else ""),
                where=store.folder,
                mend="Another experiment has rebuilt it. Run this one again, with a --store of its own.",
            )

    @property
    def name(self) -> str:
        """`<system>-fold<k>-seed<s>-<hash>`."""
        return f"{self.system}-fold{self.fold.index}-seed{self.seed}-{self.digest}"

    @property
    def folder(self) -> Path:
        """Where the cell lives."""
        return self.out / "cells" / self.name

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over the resolved settings.

        Of the network, the recipe and the options it is what differs from the defaults: a setting that is added later
        leaves the cells of before their names. The number of epochs is not among them, so that a longer run continues
        a shorter one; unless the learning rate or the strategy follows a schedule over the whole training.
        """
        follows = follows_a_schedule(self.options, self.recipe.schedule)
        recipe = _changed(asdict(self.recipe), asdict(Recipe())) | {"epochs": self.recipe.epochs if follows else 0}
        recipe.pop("readouts", None)
        deciding = {
            "format": FORMAT,
            "options": {} if self.fitted else _changed(self.options, resolve_options(self.system)),
            "fold": asdict(self.fold),
            "labels": self.labels,
            "group": self.group,
            "network": _changed(asdict(self.network), asdict(NetworkSettings())),
            "recipe": recipe,
            "normalise": self.normalise,
            "data": self.data,
        }
        if self.fitted:
            deciding["fitted"] = self.fitted.digest
        if self.system == "cgt" and self.normalise == "sliding":
            deciding["epsilon"] = SEEN
        text = json.dumps(deciding, sort_keys=True)
        return blake2b(text.encode(), digest_size=4).hexdigest()

    def result(self) -> dict[str, Any] | None:
        """The result for exactly this cell's number of epochs, or None while there is none that is whole."""
        folder = self.readout_folder()
        read = result_in(folder)
        whole = epochs_of(read) == self.recipe.epochs and self._has_all(folder)
        return read if whole else None

    def readout_folder(self, epochs: int | None = None) -> Path:
        """Where the result for `epochs` (default: the recipe's own) is, once it exists.

        The longest training's result is in the cell's folder itself, earlier readouts in `readouts/<epochs>`.
        """
        return place_of(self.folder, self.recipe.epochs if epochs is None else epochs)

    def trained_elsewhere(self) -> Path | None:
        """The cell of `weights_from` that has been through the same steps, however it was read; None without one."""
        if self.weights_from is None or self.fitted:
            return None
        decisions = DECISIONS if self.recipe.class_weights == "none" else DECISIONS[:1]  # no recipe has both
        for select, statistics, decision in product(SELECT, STATISTICS, decisions):
            recipe = replace(self.recipe, select=select, statistics=statistics, decision=decision)
            folder = replace(self, out=self.weights_from, recipe=recipe).folder
            if (folder / "checkpoint.pt").is_file() and epochs_of(result_in(folder)) == self.recipe.epochs:
                return folder
        return None

    def _has_all(self, folder: Path) -> bool:
        """Whether what was written before a `result.json` is still beside it, and says something of everybody held out.

        Without a checkpoint it is a published cell: its result and predictions are all there is, and they count.
        """
        names = []
        if (self.folder / "checkpoint.pt").exists():  # from which the rest could be made again
            names += ["embeddings.npz", "model.safetensors"]
        try:
            said = read_predictions(folder / "predictions.csv", self.labels)
        except (OSError, ValueError, KeyError):
            return False
        return said.keys() == set(self.fold.held) and all((folder / name).is_file() for name in names)


def data_digest(fold: Fold, rows: Mapping[str, Utterance], audio: Mapping[str, str], features: str, group: str) -> str:
    """A hash of what a fold is made of: labels, speakers, groups, audio, and how features were made of it."""
    digest = blake2b(features.encode(), digest_size=8)
    for name in fold.ids:
        row = rows[name]
        words = [name, row.emotion, row.speaker, audio[name]]
        if group != "speaker":
            words.append(row.get(group))
        digest.update("\t".join(words).encode() + b"\n")
    return digest.hexdigest()


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The `values` that are not their defaults, of settings within settings too."""
    changed = {name: value for name, value in values.items() if value != defaults.get(name)}
    return {name: _changed(v, defaults.get(name, {})) if isinstance(v, dict) else v for name, v in changed.items()}
