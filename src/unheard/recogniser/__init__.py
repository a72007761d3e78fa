"""A trained model in use: recordings, streams and microphones to emotions. Nothing here loads torch.

    audio -> windows -> features -> ONNX graph -> prediction, timeline

`load` is the way in.
"""

from unheard.recogniser.model import OnnxModel
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.recogniser import Recogniser, load
from unheard.recogniser.stream import Stream, WindowSettings

__all__ = ["OnnxModel", "Prediction", "Recogniser", "Segment", "SpeakerProfile", "Stream", "WindowSettings", "load"]
