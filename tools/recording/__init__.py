"""Recordings: all that a run was made of, in a file, so that it can be repeated anywhere.

A recording holds the options, which images there were, and what came from outside with the positions at which it came.
It holds neither the images nor what happened: that follows.
"""

from callgate.tools.recording.calls import FAULT, NO_ANSWER, RETURNED, Answer, CallsHeader, CallsRun
from callgate.tools.recording.changes import difference, state_of
from callgate.tools.recording.occurred import Occurred, Repetition, RunDiffers, apply
from callgate.tools.recording.recorder import Recorder, ending, written, written_calls
from callgate.tools.recording.recording import Recording, RecordingError, is_recording, parsed_recording, read_recording
from callgate.tools.recording.running import run_to

__all__ = [
    "FAULT",
    "NO_ANSWER",
    "RETURNED",
    "Answer",
    "CallsHeader",
    "CallsRun",
    "Occurred",
    "Recorder",
    "Recording",
    "RecordingError",
    "Repetition",
    "RunDiffers",
    "apply",
    "difference",
    "ending",
    "is_recording",
    "parsed_recording",
    "read_recording",
    "run_to",
    "state_of",
    "written",
    "written_calls",
]
