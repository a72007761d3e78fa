"""Where the corpora are that anyone may download, and what their files must be.

A checksum stands here only where it was published by the corpus's keepers, with the place; the others are
checked against the one seen first (`fetched.json` beside the files).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Download:
    """One archive, and how it becomes the corpus's folder.

    `strip` leading folders are taken off the names inside; `keep` are patterns of the names that are wanted
    (all without). `made_on_demand`: the server packs the archive anew for each visitor, so that only its
    contents can be compared, not its bytes. `pointers`: address before the path of files that the archive
    only points to (Git LFS); each pointer carries the SHA-256 of its file. `size` is in bytes, roughly,
    for people. `source` says where address and checksum were found.
    """

    url: str
    file: str
    source: str
    checksum: str | None = None
    size: int | None = None
    strip: int = 0
    keep: tuple[str, ...] = ()
    made_on_demand: bool = False
    pointers: str | None = None


_CREMA_D = "CheyneyComputerScience/CREMA-D"

DOWNLOADS: dict[str, Download] = {
    "ased": Download(
        url="https://github.com/Ethio2021/ASED_V1/archive/refs/heads/main.zip",
        file="ASED_V1.zip",
        strip=1,
        made_on_demand=True,
        # Whether its audio lies in Git LFS is unverified; this costs nothing where it does not.
        pointers="https://media.githubusercontent.com/media/Ethio2021/ASED_V1/main/",
        source="https://github.com/Ethio2021/ASED_V1; no checksum published",
    ),
    "crema-d": Download(
        url=f"https://github.com/{_CREMA_D}/archive/refs/heads/master.zip",
        file="CREMA-D.zip",
        strip=1,
        keep=("AudioWAV/*", "*.csv", "LICENSE*", "README*"),
        made_on_demand=True,
        pointers=f"https://media.githubusercontent.com/media/{_CREMA_D}/master/",
        size=606_000_000,
        source="https://github.com/CheyneyComputerScience/CREMA-D: .gitattributes keeps *.wav in Git LFS",
    ),
    "emodb": Download(
        url="http://emodb.bilderbar.info/download/download.zip",
        file="download.zip",
        size=40_000_000,
        source="http://emodb.bilderbar.info/download/; no checksum published",
    ),
    "nemo": Download(
        url="https://github.com/amu-cai/nEMO/archive/refs/heads/main.zip",
        file="nEMO.zip",
        strip=1,
        made_on_demand=True,
        source="https://github.com/amu-cai/nEMO; address as used by public code, no checksum published",
    ),
    "ravdess": Download(
        url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
        file="Audio_Speech_Actors_01-24.zip",
        checksum="md5:bc696df654c87fed845eb13823edef8a",
        size=208_468_073,
        source="https://zenodo.org/records/1188976 (address, size and MD5 as copied by several projects)",
    ),
    "tess": Download(
        url="https://borealisdata.ca/api/access/dataset/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
        file="TESS.zip",
        made_on_demand=True,
        size=268_000_000,
        source="https://doi.org/10.5683/SP2/E8H2MF, through the Data Access API of Dataverse",
    ),
}
"""Corpus name -> its download. Corpora that are not here are given out by their makers only."""
