"""Contact sheets: clips as rows of frames in one PNG; and clips side by side in an animated GIF."""

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

GAP = 3  # pixels between frames
LABEL = 16  # pixels of a line of text


def to_pixels(clip):
    """[3, frames, height, width] in [-1, 1] -> uint8 [frames, height, width, 3]."""
    array = clip.detach().float().cpu().numpy()
    return np.round((array.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 3, 0)


def framed(clip, count):
    """`count` evenly spaced frames of a clip, uint8 with white pixels on the right and below, a list."""
    pixels = to_pixels(clip)
    picks = np.linspace(0, len(pixels) - 1, min(count, len(pixels))).round().astype(int)
    return [np.pad(frame, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for frame in pixels[picks]]


def save_sheet(path, rows, columns, frames_shown, command=""):
    """One line of the sheet a row: for each clip of the row, `frames_shown` evenly spaced frames, left to right.

    `rows` is a list of lists of clips [3, frames, height, width]; `columns` is the clips' number in every row. The
    command that made the picture is kept in the PNG's text. Colours are reduced to 256 to keep the file small.
    """
    lines = []
    for row in rows:
        if len(row) != columns:
            raise ValueError(f"sheet: wanted {columns} clips in a row, found {len(row)}")
        pieces = []
        for clip in row:
            frames = framed(clip, frames_shown)
            pieces += [*frames, np.full((len(frames[0]), 3 * GAP, 3), 255, np.uint8)]
        lines.append(np.concatenate(pieces[:-1], axis=1))
    save_picture(path, Image.fromarray(np.concatenate(lines, axis=0)), command)


def save_picture(path, image, command):
    """A PNG of 256 colours, undithered, with `command` in its text."""
    info = PngInfo()
    info.add_text("command", command)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=info)


def animate(path, clips, frame_ms=125):
    """An endless GIF of clips [3, frames, height, width] of one size, side by side, GAP white pixels between them."""
    pixels = [to_pixels(clip) for clip in clips]
    gap = np.full((*pixels[0].shape[:2], GAP, 3), 255, np.uint8)
    joined = [part for clip in pixels for part in (clip, gap)][:-1]
    frames = [Image.fromarray(frame) for frame in np.concatenate(joined, axis=2)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=frame_ms, loop=0)


def save_labelled_sheet(path, rows, frames_shown, command=""):
    """One line of the sheet a row (label, clips): the label, then `frames_shown` evenly spaced frames of each clip
    [3, frames, height, width]."""
    if len({len(clips) for _, clips in rows}) != 1:
        raise ValueError(f"sheet: wanted as many clips in every row, found {[len(clips) for _, clips in rows]}")
    lines = []
    for label, clips in rows:
        line = np.concatenate([frame for clip in clips for frame in framed(clip, frames_shown)], axis=1)
        caption = Image.new("RGB", (line.shape[1], LABEL), "white")
        ImageDraw.Draw(caption).text((2, 2), label, fill="black")
        lines += [np.asarray(caption), line]
    save_picture(path, Image.fromarray(np.concatenate(lines, axis=0)), command)
