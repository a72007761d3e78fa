"""Acted corpora in English: CREMA-D, RAVDESS, SAVEE, TESS."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from unheard.corpora.corpus import UNVERIFIED, Corpus, Download, emotion_table

# `AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, intended emotion, level (LO, MD, HI; XX unspecified).

_CREMA_D = "https://github.com/CheyneyComputerScience/CREMA-D"
# The actors whose Sex is Female in VideoDemographics.csv (repository, commit 98df52c2); the others are male.
_CREMA_D_FEMALE = {
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028,
    1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063,
    1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091,
}  # fmt: skip


def _full_level(fields: dict[str, str]) -> dict[str, str]:
    """Complete the id of 1040_ITH_SAD_X, a file of older releases now named ..._XX."""
    return fields | {"id": fields["id"] + "X"} if fields["level"] == "X" else fields


CREMA_D = Corpus(
    name="crema-d",
    title="CREMA-D",
    language="en",
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma (2014): CREMA-D: Crowd-Sourced Emotional Multimodal Actors "
    "Dataset, IEEE Transactions on Affective Computing 5(4): 377-390",
    homepage=_CREMA_D,
    obtain=f"The release is at {_CREMA_D}, its audio in Git LFS (unheard fetch crema-d).",
    layout="AudioWAV/1001_DFA_ANG_XX.wav",
    patterns=(
        r"(?P<speaker>\d{4})_(?P<text>IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)_(?P<emotion>[A-Z]{3})"
        r"_(?P<level>LO|MD|HI|XX?)",
    ),
    folder="AudioWAV",
    refine=_full_level,
    emotions=emotion_table("ANG anger, DIS disgust, FEA fear, HAP happy, NEU neutral, SAD sad"),
    values={"level": {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}},
    genders={str(actor): "female" if actor in _CREMA_D_FEMALE else "male" for actor in range(1001, 1092)},
    counts={"angry": 1271, "disgusted": 1271, "fearful": 1271, "happy": 1271, "neutral": 1087, "sad": 1271},
    unusable={
        "1076_MTI_SAD_XX": "it has no sound",
        "1064_IEO_DIS_MD": "one minute with every emotion of the sentence in it",
    },
    sources={
        "speakers": f"{_CREMA_D} (README: 48 male, 43 female)",
        "utterances": f"{_CREMA_D} (README)",
        "counts": "counted alike by several public projects; they add up to the README's 7442",
        "licence": f"{_CREMA_D}/blob/master/LICENSE.txt",
    },
    traps=(
        "CREMA-D: the labels are the emotions the actors were asked for; listeners who only heard the clips agreed "
        "with them in about 41 % (Cao et al. 2014), so no model will do very well",
        "CREMA-D: twelve sentences, so a split by speaker still shares the words; levels exist for IEO only",
        "CREMA-D: its makers also list 1064_TIE_SAD_XX and 1076_MTI_NEU_XX as broken (almost empty)",
    ),
    download=Download(
        url=f"{_CREMA_D}/archive/refs/heads/master.zip",
        file="CREMA-D.zip",
        strip=1,
        keep=("AudioWAV/*", "*.csv", "LICENSE*", "README*"),
        pointers="https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/",
        source=f"{_CREMA_D}: .gitattributes keeps *.wav in Git LFS",
    ),
)

# `Actor_12/03-01-06-01-02-01-12.wav`: modality (03 audio only), channel (01 speech), emotion, intensity, statement,
# repetition, actor (even: female). Repackagings append words (`_fearful`, `_16k`), which are ignored.

_RAVDESS_SUFFIX = r"(?:[ _-][0-9]*[A-Za-z][A-Za-z0-9]*)*"
_RAVDESS = "https://zenodo.org/record/1188976"
_RAVDESS_GENDERS = {f"{number:02d}": "male" if number % 2 else "female" for number in range(1, 25)}
_RAVDESS_EMOTIONS = emotion_table(
    "01 neutral, 02 calm, 03 happy, 04 sad, 05 angry, 06 fearful, 07 disgust, 08 surprised"
)


def _ravdess_clips(root: Path) -> Mapping[str, str]:
    """Return every clip of RAVDESS with its label; neutral has no strong intensity."""
    return {
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}": _RAVDESS_EMOTIONS[emotion][0]
        for emotion, intensity, statement, repetition, actor in product(
            _RAVDESS_EMOTIONS, *[("01", "02")] * 3, _RAVDESS_GENDERS
        )
        if (emotion, intensity) != ("01", "02")
    }


RAVDESS = Corpus(
    name="ravdess",
    title="RAVDESS (speech)",
    language="en",
    licence="CC BY-NC-SA 4.0",
    citation="Livingstone, Russo (2018): The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE "
    "13(5): e0196391",
    homepage=_RAVDESS,
    obtain=f"The release is Audio_Speech_Actors_01-24.zip at {_RAVDESS} (unheard fetch ravdess).",
    layout="Actor_01/03-01-06-01-02-01-01.wav",
    patterns=(
        r"(?P<id>03-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<text>0[12])-(?P<repetition>\d\d)"
        rf"-(?P<speaker>\d\d)){_RAVDESS_SUFFIX}",
    ),
    folder=r"Actor_\d\d",
    ignore=rf"(?!03-01)\d\d-\d\d(?:-\d\d){{5}}{_RAVDESS_SUFFIX}",  # song, and the sound of the videos
    emotions=_RAVDESS_EMOTIONS,
    values={
        "intensity": {"01": "normal", "02": "strong"},
        "text": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    },
    genders=_RAVDESS_GENDERS,
    counts={label: 96 if label == "neutral" else 192 for label, _ in _RAVDESS_EMOTIONS.values()},
    clips=_ravdess_clips,
    sources={
        **dict.fromkeys(("speakers", "utterances", "licence"), _RAVDESS),
        "counts": f"{_RAVDESS}: 24 actors x 2 statements x 2 repetitions x 2 intensities, one for neutral",
        "duplicates": "found by comparing the decoded samples of all clips of the four usual emotions",
    },
    copies=(("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),),
    traps=(
        "RAVDESS: two sentences only, so a model can do well on them and on nothing else",
        "RAVDESS: 'calm' is a label of its own here; merge it with --map calm=neutral where a paper does",
    ),
    download=Download(
        url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
        file="Audio_Speech_Actors_01-24.zip",
        checksum="md5:bc696df654c87fed845eb13823edef8a",
        source="https://zenodo.org/records/1188976 (address and MD5 as copied by several projects)",
    ),
)

# `AudioData/DC/sa03.wav` or `DC_sa03.wav`: speaker, letters of the emotion, number.

_SAVEE = "http://kahlan.eps.surrey.ac.uk/savee/"
_SAVEE_INFO = "AudioData/Info.txt of the release: 15 sentences an emotion; 'DC', 'JE', 'JK', 'KL', all male"
_SAVEE_EMOTIONS = emotion_table("a anger, d disgust, f fear, h happiness, n neutral, sa sadness, su surprise")
_SAVEE_COUNTS = {label: 30 if label == "neutral" else 15 for label, _ in _SAVEE_EMOTIONS.values()}
_SAVEE_SPEAKERS = ("DC", "JE", "JK", "KL")


def _numbered(fields: dict[str, str]) -> dict[str, str] | None:
    speaker, letters, number = fields["speaker"].upper(), fields["emotion"].lower(), fields.pop("number")
    if not 1 <= int(number) <= _SAVEE_COUNTS[_SAVEE_EMOTIONS[letters][0]]:
        return None
    return fields | {"id": f"{speaker}_{letters}{number}", "speaker": speaker, "text": f"{letters}{number}"}


SAVEE = Corpus(
    name="savee",
    title="SAVEE (Surrey Audio-Visual Expressed Emotion)",
    language="en",
    licence="research only, after registration",
    citation="Jackson, Haq (2014): Surrey Audio-Visual Expressed Emotion (SAVEE) Database, University of Surrey",
    homepage=_SAVEE,
    obtain=f"Register at {_SAVEE} to be given the download.",
    layout="AudioData/DC/a01.wav or DC_a01.wav",
    patterns=(r"(?i:(?P<speaker>DC|JE|JK|KL)[/_](?P<emotion>a|d|f|h|n|sa|su)(?P<number>\d\d))",),
    folder="AudioData",
    refine=_numbered,
    emotions=_SAVEE_EMOTIONS,
    genders=dict.fromkeys(_SAVEE_SPEAKERS, "male"),
    counts={label: 4 * count for label, count in _SAVEE_COUNTS.items()},
    speaker_counts=dict.fromkeys(_SAVEE_SPEAKERS, _SAVEE_COUNTS),
    sources={
        **dict.fromkeys(("speakers", "speaker_counts"), _SAVEE_INFO),
        "utterances": "counted alike by several public projects: neutral 120, the others 60",
        "counts": f"{_SAVEE_INFO}; neutral 30 as counted by several public projects",
        "licence": UNVERIFIED,
    },
    traps=(
        "SAVEE: four speakers, all men; no result on it says much about unseen voices",
        "SAVEE: most sentences belong to one emotion, so the words give the emotion away",
    ),
)

# `OAF_angry/OAF_back_angry.wav`: talker (older, younger), word, emotion (ps: pleasant surprise).

_TESS = "https://doi.org/10.5683/SP2/E8H2MF"
_TESS_CATALOGUES = "https://tspace.library.utoronto.ca/handle/1807/24487, as quoted by several catalogues"
_TESS_AGES = {"OAF": "64", "YAF": "26"}  # age
_TESS_EMOTIONS = emotion_table("angry, disgust, fear, happy, neutral, ps pleasant surprise, sad")


def _talker(fields: dict[str, str]) -> dict[str, str]:
    """Normalise the case of names; the release misspells OAF_bite_neutral as OA_bite_neutral, not a third talker."""
    talker, word, ending = fields["speaker"].upper(), fields["text"].lower(), fields["emotion"].lower()
    talker = "OAF" if talker == "OA" else talker
    name = f"{talker}_{word}_{ending}"
    return {"id": name, "speaker": talker, "emotion": ending, "text": word, "age": _TESS_AGES[talker]}


TESS = Corpus(
    name="tess",
    title="TESS (Toronto emotional speech set)",
    language="en",
    licence="CC BY-NC 4.0",
    citation="Pichora-Fuller, Dupuis (2020): Toronto emotional speech set (TESS), Borealis, doi 10.5683/SP2/E8H2MF",
    homepage=_TESS,
    obtain=f"The release is at {_TESS} (unheard fetch tess).",
    layout="OAF_angry/OAF_back_angry.wav",
    patterns=(r"(?i:(?P<speaker>OAF?|YAF)_(?P<text>[a-z]+)_(?P<emotion>[a-z]+))",),
    folder="(OAF|YAF)_.*",
    refine=_talker,
    emotions=_TESS_EMOTIONS,
    genders=dict.fromkeys(_TESS_AGES, "female"),
    counts={label: 400 for label, _ in _TESS_EMOTIONS.values()},
    speaker_counts={talker: {label: 200 for label, _ in _TESS_EMOTIONS.values()} for talker in _TESS_AGES},
    sources={
        **dict.fromkeys(("speakers", "utterances"), _TESS_CATALOGUES),
        "counts": f"{_TESS_CATALOGUES}: 200 words x 2 talkers an emotion",
        "speaker_counts": f"{_TESS_CATALOGUES}: 200 words an emotion",
        "licence": "https://huggingface.co/datasets/myleslinder/tess (cc-by-nc-4.0); at the origin: unverified, "
        "some catalogues say CC BY-NC-ND 4.0",
    },
    traps=(
        "TESS: two speakers, both women; it cannot show how a model does on unseen voices",
        "TESS: one carrier phrase ('Say the word ...'), so the words are shared by every split",
        "TESS: some tools cannot read YAF_germ_angry.wav and YAF_neat_fear.wav",
    ),
    download=Download(
        url="https://borealisdata.ca/api/access/dataset/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
        file="TESS.zip",
        source="https://doi.org/10.5683/SP2/E8H2MF, through the Data Access API of Dataverse",
    ),
)
