"""Recordings: all that a run was made of, in a file, so that it can be repeated anywhere.

A recording holds the options, which images there were, and what came from outside with the positions at which it came.
It holds neither the images nor what happened: that follows.
"""

from callgate.tools.recording.occurred import Occurred, Repetition, RunDiffers, apply
from callgate.tools.recording.recorder import Recorder, written
from callgate.tools.recording.recording import Recording, RecordingError, is_recording, read_recording

__all__ = [
    "Occurred",
    "Recorder",
    "Recording",
    "RecordingError",
    "Repetition",
    "RunDiffers",
    "apply",
    "is_recording",
    "read_recording",
    "written",
]
