"""Capturing the self-attention of diffusers' video pipelines into dumps; scripts/capture_video_model.py is the command.

capture.py    any pipeline and a callable that runs it -> a dump
pipelines.py  loading a pipeline, and what it is called with
"""

import pathlib
import sys

try:
    import draftattention  # noqa: F401
except ImportError:  # capturing needs none of the compiled kernels: the sources do
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "kernels" / "python"))
