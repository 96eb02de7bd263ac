"""H.264 films from display pictures, through PyAV.

In: an iterable of (H, W, 3) u8 sRGB pictures, frame rate, quality, a comment. Out: one MP4 that browsers and review tools play: yuv420p,
Rec.709 matrix in the pixels and Rec.709 tags in the stream (reviewers see shifted colours where the two differ), the comment as
metadata, the index first for streaming. Odd sizes are padded by one repeated row or column, which 4:2:0 needs.
The thread count is fixed, so the same pictures give the same file. x264 comes inside PyAV (GPL); nothing of it is linked into this code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

ENCODER = {"preset": "medium", "threads": "2", "tune": "film"}


def movie_write(path: Path, pictures: Iterable[np.ndarray], fps: float, crf: int, comment: str) -> int:
    """Publish a film and say how many frames it has. Raises ValueError if there is none."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    count = 0
    try:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart+use_metadata_tags"}) as container:
            container.metadata["comment"] = comment
            stream = None
            for picture in pictures:
                picture = even(picture)
                if stream is None:
                    stream = container.add_stream("libx264", rate=rate_of(fps), options={**ENCODER, "crf": str(crf)})
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    context = stream.codec_context
                    context.color_primaries = ColorPrimaries.BT709
                    context.color_trc = ColorTrc.BT709
                    context.colorspace = Colorspace.ITU709
                    context.color_range = ColorRange.MPEG
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(
                    format="yuv420p", src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU709,
                    src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
                )  # fmt: skip
                frame.pts = count
                container.mux(stream.encode(frame))
                count += 1
            if stream is None:
                raise ValueError(f"{path}: a film of no frames")
            container.mux(stream.encode(None))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def rate_of(fps: float) -> Fraction:
    """The exact rate behind a rounded one: 23.976 is 24000 / 1001."""
    nearest = round(fps * 1.001)
    if nearest and abs(fps - nearest / 1.001) < 5e-4:
        return Fraction(nearest * 1000, 1001)
    return Fraction(fps).limit_denominator(1000)


def even(picture: np.ndarray) -> np.ndarray:
    """Padded to even height and width."""
    h, w = picture.shape[:2]
    return np.ascontiguousarray(np.pad(picture, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge"))
