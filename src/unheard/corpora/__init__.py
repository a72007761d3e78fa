"""Corpora: each has one file here whose `read` turns the released folder into a manifest.

Nothing is imported until it is asked for, so that naming the corpora costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from unheard.corpora.official import Official
from unheard.errors import CorpusError, ManifestError, did_you_mean
from unheard.manifest import Manifest

CORPORA: dict[str, str] = {
    "ased": "unheard.corpora.releases.ased",
    "casia": "unheard.corpora.releases.casia",
    "crema-d": "unheard.corpora.releases.crema_d",
    "emodb": "unheard.corpora.releases.emodb",
    "esd": "unheard.corpora.releases.esd",
    "iemocap": "unheard.corpora.releases.iemocap",
    "nemo": "unheard.corpora.releases.nemo",
    "ravdess": "unheard.corpora.releases.ravdess",
    "savee": "unheard.corpora.releases.savee",
    "synthetic": "unheard.corpora.synthetic",
    "tess": "unheard.corpora.releases.tess",
}
"""Corpus name -> module with `OFFICIAL` and `read(root, *, labels=None, partial=False) -> Manifest`.

A corpus with subsets (`OFFICIAL.subsets`) takes the keyword `subset` as well.
"""


def official(name: str) -> Official:
    """The facts of one corpus; raises `CorpusError` for an unknown name."""
    key = name.lower().replace("_", "-").replace("cremad", "crema-d")
    if key not in CORPORA:
        raise CorpusError(f"unknown corpus '{name}'", mend=did_you_mean(key, CORPORA))
    facts: Official = import_module(CORPORA[key]).OFFICIAL
    return facts


def describe() -> list[Official]:
    """The facts of every corpus with a reader, by name: title, language, speakers, licence, traps..."""
    return [official(name) for name in sorted(CORPORA)]


def read_corpus(
    name: str,
    root: str | Path,
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    subset: str | None = None,
) -> Manifest:
    """The manifest of the corpus `name` from its official folder `root`, WAV or FLAC.

    `labels` decide whether the tree is complete, by default the four usual emotions (for a subset: its own);
    every usable row is kept whatever they are. What differs from the release is in `Manifest.notes`, of the
    kinds `missing`, `duplicate`, `extra`, `odd-name`, `unusable` and `trap`. Raises `CorpusError` for an
    unknown corpus or subset, a tree that is not of this corpus and, unless `partial`, a tree that is
    incomplete for the labels.
    """
    facts = official(name)
    if subset is not None and subset not in facts.subsets:
        mend = did_you_mean(subset, facts.subsets) if facts.subsets else "Leave --subset out."
        raise CorpusError(f"{facts.title} has no subset '{subset}'", mend=mend)
    options = {} if subset is None else {"subset": subset}
    module = import_module(CORPORA[facts.name])
    manifest: Manifest = module.read(root, labels=labels, partial=partial, **options)
    return manifest


def read_manifest(path: str | Path) -> Manifest:
    """A manifest from a CSV, TSV, JSONL or JSON file, or from a Kaldi data directory (a folder with `wav.scp`).

    Raises `ManifestError` for anything else, and whatever its reader raises.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ManifestError(
            "there is no such manifest",
            where=path,
            mend="Write one with: unheard prepare NAME ROOT -o FILE.csv",
        )
    if path.is_dir():
        if (path / "wav.scp").is_file():
            from unheard.corpora.kaldi import read_kaldi

            return read_kaldi(path)
        raise ManifestError(
            "this folder is not a Kaldi data directory: it has no 'wav.scp'",
            where=path,
            mend="For a released corpus, run: unheard prepare NAME ROOT -o FILE.csv",
        )
    from unheard.corpora.table import TABLE_SUFFIXES, read_table

    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(path)
    raise ManifestError(
        f"'{path.suffix or path.name}' is no kind of manifest",
        where=path,
        mend=f"Known: {', '.join(TABLE_SUFFIXES)}, or a Kaldi data directory.",
    )
