"""`unheard starter`: a model to give to people, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unheard.cli.shared import Output, say, words


def starter(
    *,
    output: Output,
    corpus: str = "",
    root: str = "",
    manifest: str = "",
    runs: Path = Path("starter"),
    name: str = "starter",
    licence: str = "",
    emotions: str = "angry,happy,neutral,sad",
    system: str = "ser",
    recipe: str = "strong",
    folds: int = 5,
    epochs: int = 0,
    workers: int = 0,
) -> None:
    """Train a model on corpora or a manifest of your own, measure it, and write a folder that people can use.

    Example: unheard starter --corpus emodb,ravdess --root data/emodb,data/ravdess -o my-model

    Cross-validates the recipe by speakers, leaves each corpus out in turn, trains the model on nearly all speakers, and
    writes it as ONNX with a card of these figures. An interrupted call goes on where it stopped.

    Parameters
    ----------
    output
        Folder of the model.
    corpus
        Names of corpora with readers, separated by commas; they need `root`.
    root
        Their folders, in the same order.
    manifest
        A manifest of your own instead.
    runs
        Folder of the experiments.
    name
        What the model is called.
    licence
        Licence of the weights; those of the corpora may bind you.
    emotions
        The emotions told apart.
    system
        ser, mtl, dat or cgt.
    recipe
        paper or strong.
    folds
        Of the cross-validation.
    epochs
        Of each training (0: the recipe's).
    workers
        Trainings at once (0: one a core).
    """
    from unheard.export.starter import make_starter

    settings: dict[str, Any] = {
        "corpus": corpus, "root": root, "manifest": manifest, "emotions": words(emotions), "systems": (system,),
        "recipe": recipe, "workers": workers,
    }  # fmt: skip
    if epochs:
        settings["epochs"] = epochs
    done = make_starter(output, settings, runs=runs, name=name, licence=licence, folds=folds, say=say)
    print(done.folder)
