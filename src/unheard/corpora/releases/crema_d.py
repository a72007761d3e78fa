"""CREMA-D: 91 actors of many backgrounds, twelve sentences, six emotions.

`AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, intended emotion, level (LO, MD, HI; XX unspecified).
"""

from unheard.corpora.corpus import Corpus, Download

# The actors whose Sex is Female in VideoDemographics.csv (repository, commit 98df52c2); the others are male.
_FEMALE = {
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028,
    1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063,
    1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091,
}  # fmt: skip
_HOME = "https://github.com/CheyneyComputerScience/CREMA-D"


def _full_level(fields: dict[str, str]) -> dict[str, str]:
    """Complete the id of 1040_ITH_SAD_X, a file of older releases that is named ..._XX today."""
    return fields | {"id": fields["id"] + "X"} if fields["level"] == "X" else fields


CORPUS = Corpus(
    name="crema-d",
    title="CREMA-D",
    language="en",
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma (2014): CREMA-D: Crowd-Sourced Emotional Multimodal Actors "
    "Dataset, IEEE Transactions on Affective Computing 5(4): 377-390",
    homepage=_HOME,
    obtain=f"The release is at {_HOME}, its audio in Git LFS (unheard fetch crema-d).",
    layout="AudioWAV/1001_DFA_ANG_XX.wav",
    patterns=(
        r"(?P<speaker>\d{4})_(?P<text>IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)_(?P<emotion>[A-Z]{3})"
        r"_(?P<level>LO|MD|HI|XX?)",
    ),
    folder="AudioWAV",
    refine=_full_level,
    emotions={
        "ANG": ("angry", "anger"), "DIS": ("disgusted", "disgust"), "FEA": ("fearful", "fear"),
        "HAP": ("happy", "happy"), "NEU": ("neutral", "neutral"), "SAD": ("sad", "sad"),
    },
    values={"level": {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}},
    genders={str(actor): "female" if actor in _FEMALE else "male" for actor in range(1001, 1092)},
    counts={"angry": 1271, "disgusted": 1271, "fearful": 1271, "happy": 1271, "neutral": 1087, "sad": 1271},
    unusable={
        "1076_MTI_SAD_XX": "it has no sound",
        "1064_IEO_DIS_MD": "one minute with every emotion of the sentence in it",
    },
    sources={
        "speakers": f"{_HOME} (README: 48 male, 43 female)",
        "utterances": f"{_HOME} (README)",
        "counts": "counted alike by several public projects; they add up to the README's 7442",
        "licence": f"{_HOME}/blob/master/LICENSE.txt",
    },
    traps=(
        "CREMA-D: the labels are the emotions the actors were asked for; listeners who only heard the clips agreed "
        "with them in about 41 % (Cao et al. 2014), so no model will do very well",
        "CREMA-D: twelve sentences, so a split by speaker still shares the words; levels exist for IEO only",
        "CREMA-D: its makers also list 1064_TIE_SAD_XX and 1076_MTI_NEU_XX as broken (almost empty)",
    ),
    download=Download(
        url=f"{_HOME}/archive/refs/heads/master.zip",
        file="CREMA-D.zip",
        strip=1,
        keep=("AudioWAV/*", "*.csv", "LICENSE*", "README*"),
        pointers="https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/",
        source=f"{_HOME}: .gitattributes keeps *.wav in Git LFS",
    ),
)  # fmt: skip
