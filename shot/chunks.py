"""Where recurrent image stages restart, so that any frame range on any machine gives the same frames.

Frame f belongs to chunk (f - first) // CHUNK. A chunk's recurrence begins, without history, WARM_UP frames before its first
frame; in those frames the old and the new one are cross-faded. Plain integers: the plan of a run asks the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence

CHUNK, WARM_UP = 24, 4


def chunk_weights(frame: int, first: int) -> list[tuple[int, float]]:
    """(chunk, weight) of the recurrences that make up a frame: one, or two while the next one fades in."""
    chunk = (frame - first) // CHUNK
    into_next = frame - (first + CHUNK * (chunk + 1) - WARM_UP) + 1
    if into_next <= 0:
        return [(chunk, 1.0)]
    share = into_next / (WARM_UP + 1)
    return [(chunk, 1.0 - share), (chunk + 1, share)]


def chunk_start(chunk: int, first: int) -> int:
    """Frame at which a chunk's recurrence begins."""
    return max(first, first + CHUNK * chunk - WARM_UP)


def guide_frames(frames: Sequence[int], first: int, history: float) -> list[int]:
    """Frames whose guides must exist to refine `frames`: themselves, and with history all since their chunks began."""
    if history == 0:
        return sorted(set(frames))
    return sorted({g for f in frames for chunk, _ in chunk_weights(f, first) for g in range(chunk_start(chunk, first), f + 1)})
