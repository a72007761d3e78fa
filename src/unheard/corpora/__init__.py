"""Corpora: declarations of released corpora, and readers of users' tables, which return a `Manifest`.

Modules are imported on use, so that listing the corpora is fast.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from unheard import plugins
from unheard.corpora.corpus import Corpus, read_tree
from unheard.errors import CorpusError, ManifestError, did_you_mean
from unheard.manifest import Manifest

CORPORA = {
    **dict.fromkeys(("ased", "casia", "emodb", "esd", "nemo"), "unheard.corpora.languages"),
    **dict.fromkeys(("crema-d", "ravdess", "savee", "tess"), "unheard.corpora.english"),
    "iemocap": "unheard.corpora.iemocap",
    "synthetic": "unheard.corpora.synthetic",
}
"""Corpus name -> module with a `Corpus` of that name in capitals, and `read` if file names are not sufficient."""


def get_corpus(name: str) -> Corpus:
    """Return the declaration of a corpus; raises `CorpusError` for an unknown name."""
    key = name.lower().replace("_", "-").replace("cremad", "crema-d")
    if key in CORPORA:
        corpus: Corpus = getattr(import_module(CORPORA[key]), key.upper().replace("-", "_"))
        return corpus
    plugin = plugins.find("corpus", key)
    if plugin is None:
        raise CorpusError(f"unknown corpus '{name}'", mend=did_you_mean(key, corpus_names()))
    return plugin.thing  # type: ignore[no-any-return]


def corpus_names() -> tuple[str, ...]:
    """Return the names of all corpora, plug-ins last."""
    return (*sorted(CORPORA), *plugins.names("corpus"))


def list_corpora() -> list[Corpus]:
    """Return the declaration of every corpus, by name, plug-ins last."""
    return [get_corpus(name) for name in corpus_names()]


def read_corpus(
    name: str,
    root: str | Path,
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    subset: str | None = None,
) -> Manifest:
    """Read the corpus `name` from its official folder `root`, in any format that can be decoded.

    The tree must be complete for `labels`, by default the four usual emotions (or those of the subset); every usable
    row is kept. Differences from the release are in `Manifest.notes`, of the kinds `missing`, `duplicate`, `extra`,
    `odd-name`, `lfs-pointer`, `formats`, `unusable` and `trap`. Raises `CorpusError` for an unknown corpus or subset, a
    tree of another corpus, copies of a clip that differ in sound and, unless `partial`, a tree that is incomplete for
    the labels.
    """
    corpus = get_corpus(name)
    subsets = {**corpus.subsets, **corpus.text_subsets}
    if subset is not None and subset not in subsets:
        mend = did_you_mean(subset, subsets) if subsets else "Leave out --subset."
        raise CorpusError(f"{corpus.title} has no subset '{subset}'", mend=mend)
    if corpus.patterns:
        return read_tree(corpus, root, labels=labels, partial=partial, subset=subset)
    options = {} if subset is None else {"subset": subset}
    manifest: Manifest = import_module(CORPORA[corpus.name]).read(root, labels=labels, partial=partial, **options)
    return manifest


def read_manifest(
    path: str | Path | Any, *, mapping: Mapping[str, str] | None = None, audio_root: str | Path | None = None
) -> Manifest:
    """Read a CSV, TSV, JSONL or JSON file, a Kaldi data directory, an audformat database or a DataFrame.

    Objects with `to_pandas()`, such as Hugging Face data sets, are accepted as well.

    `mapping` maps words of the table to canonical labels (`rabbia` -> `angry`). `audio_root` is the folder of relative
    audio paths, by default the table's folder, or the working directory for a DataFrame; if given, its sub-folders are
    searched for missing files. Raises `ManifestError` for anything else, and the errors of each format's reader.
    """
    from unheard.corpora.table import TABLE_SUFFIXES, read_audformat, read_frame, read_table

    path = path.to_pandas() if hasattr(path, "to_pandas") else path
    if hasattr(path, "columns"):
        return read_frame(path, mapping=mapping, audio_root=audio_root)
    if not isinstance(path, (str, Path)):
        what = f"a manifest is a path or a table such as a pandas DataFrame, not a {type(path).__name__}"
        raise ManifestError(what, mend="Convert it with pandas.DataFrame(...).")
    path = Path(path).expanduser()
    mend = "For a released corpus, run: unheard prepare NAME ROOT -o FILE.csv"
    if not path.exists():
        raise ManifestError("there is no such manifest", where=path, mend=mend)
    database = path if path.is_dir() else path.parent
    if (database / "db.yaml").is_file() and (path.is_dir() or path.name.startswith("db.")):
        table = path.stem.removeprefix("db.")
        return read_audformat(database, table, mapping=mapping, audio_root=audio_root)
    if (path / "wav.scp").is_file():
        from unheard.corpora.kaldi import read_kaldi

        return read_kaldi(path, mapping=mapping, audio_root=audio_root)
    if path.is_dir():
        what = "this folder is neither a Kaldi data directory (no 'wav.scp') nor an audformat database (no 'db.yaml')"
        raise ManifestError(what, where=path, mend=mend)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(path, mapping=mapping, audio_root=audio_root)
    mend = f"Known: {', '.join(TABLE_SUFFIXES)}, a Kaldi data directory, or an audformat database."
    raise ManifestError(f"'{path.suffix or path.name}' is not a format of manifests", where=path, mend=mend)
