"""The music of the demo: two old tunes, made by arithmetic, the same bytes each time. WAV, 16 bit, stereo."""

from __future__ import annotations

import io
import math
import sys
import wave
from array import array
from functools import cache

_RATE = 44_100
"""Frames a second; each has a left and a right sample of two bytes."""

# Notes: the number of semitones above A4 (440 Hz), and how many quarter seconds it sounds.
_ODE_TO_JOY = [(semitones, 2) for semitones in (-5, -5, -4, -2, -2, -4, -5, -7, -9, -9, -7, -5)]
_ODE_END_1 = [(-5, 3), (-7, 1), (-7, 4)]
_ODE_END_2 = [(-7, 3), (-9, 1), (-9, 4)]
_CANON_BASS = [(-7, 4), (-12, 4), (-10, 4), (-15, 4), (-14, 4), (-19, 4), (-14, 4), (-12, 4)]
_CANON_LEAD = [(9, 4), (7, 4), (5, 4), (4, 4), (2, 4), (0, 4), (2, 4), (4, 4)]


def music_files() -> dict[str, bytes]:
    """Name and content of each file, some 14 MB together."""
    return {
        "ode-to-joy.wav": _render([*_ODE_TO_JOY, *_ODE_END_1, *_ODE_TO_JOY, *_ODE_END_2] * 2),
        "canon-in-d.wav": _render((_CANON_BASS + _CANON_LEAD) * 3),
    }


def _render(notes: list[tuple[int, int]]) -> bytes:
    samples = array("h")
    for semitones, quarters in notes:
        samples.extend(_note(semitones, quarters))
    if sys.byteorder == "big":
        samples.byteswap()
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples.tobytes())
    return content.getvalue()


@cache
def _note(semitones: int, quarters: int) -> array[int]:
    """A plucked string: the tone and its octave, fading; a little to the left when low, to the right when high."""
    frames = _RATE * quarters // 4
    step = 2 * math.pi * 440 * 2 ** (semitones / 12) / _RATE
    right = 0.5 + semitones / 60
    samples = array("h")
    for frame in range(frames):
        fade = math.exp(-3 * frame / frames) * min(1, (frames - frame) / 400)
        tone = 20_000 * fade * (0.7 * math.sin(step * frame) + 0.3 * math.sin(2 * step * frame))
        samples.append(int(tone * (1 - right)))
        samples.append(int(tone * right))
    return samples
