"""Contact sheets: clips as rows of frames in one PNG."""

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

GAP = 3  # pixels between frames


def to_pixels(clip):
    """[3, frames, height, width] in [-1, 1] -> uint8 [frames, height, width, 3]."""
    array = clip.detach().float().cpu().numpy()
    return np.round((array.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 3, 0)


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
            pixels = to_pixels(clip)
            picks = np.linspace(0, len(pixels) - 1, min(frames_shown, len(pixels))).round().astype(int)
            for frame in pixels[picks]:
                pieces.append(np.pad(frame, ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
            pieces.append(np.full((frame.shape[0] + GAP, 3 * GAP, 3), 255, np.uint8))
        lines.append(np.concatenate(pieces[:-1], axis=1))
    save_picture(path, Image.fromarray(np.concatenate(lines, axis=0)), command)


def save_picture(path, image, command):
    """A PNG of 256 colours, undithered, with `command` in its text."""
    info = PngInfo()
    info.add_text("command", command)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=info)
