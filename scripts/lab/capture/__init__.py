"""Capturing the self-attention of diffusers' video pipelines into dumps: `python3 -m lab.capture`, and
draftbench-capture of an installation.

capture.py    any pipeline and a callable that runs it -> a dump
pipelines.py  loading a pipeline, and what it is called with
"""
