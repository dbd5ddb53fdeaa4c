"""Videos as files, by OpenCV."""

import os


def write_mp4(path, frames, frames_a_second):
    """An MP4 of uint8 [frames, height, width, 3], RGB. Raises ImportError without OpenCV, OSError where it cannot write."""
    import cv2

    size = frames.shape[2:0:-1]
    writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter_fourcc(*"mp4v"), frames_a_second, size)
    if not writer.isOpened():
        raise OSError(f"{path}: OpenCV cannot write an MP4 here")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
