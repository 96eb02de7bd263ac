"""Frame lists as people in the trade write them: `1001-1100x2,1120`.

In: a text and the shot's frames. Out: ascending frame numbers. Grammar is fileseq's without ':' (stagger) and 'y' (fill), which
mean other things elsewhere and so are refused by name.
"""

from __future__ import annotations

from shot.errors import DemolishError


class FrameSpecError(DemolishError):
    """A frame list that cannot be read or lies outside the shot."""

    exit_code = 2


def frames_parse(text: str, shot_frames: range) -> list[int]:
    """Frames named by `text`, sorted, without repeats. Raises FrameSpecError."""
    for sign, meaning in ((":", "':' staggers in fileseq and steps in OpenJD"), ("y", "'y' fills the gaps of a step")):
        if sign in text:
            raise FrameSpecError(f"--frames {text}: {meaning}; write x for a step, as in 1001-1100x2")
    from fileseq.exceptions import ParseException
    from fileseq.frameset import FrameSet

    try:
        frames = sorted(set(FrameSet(text)))
    except ParseException:
        raise FrameSpecError(f"--frames {text}: want a list such as 1001-1100x2,1120") from None
    whole = [int(f) for f in frames]
    outside = [f for f in whole if f not in shot_frames]
    if outside:
        raise FrameSpecError(f"--frames {text}: {outside[0]} is outside the shot, {shot_frames[0]}-{shot_frames[-1]}")
    return whole
