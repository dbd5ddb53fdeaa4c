"""Attention kernels side by side: this project's and their peers on the same tensors and masks, in one run.

inputs       what is attended to: a dump's heads or random tensors
masks        one block mask in everybody's own form
contenders   the kernels, a family a file, each as a function without arguments
records      what a run leaves behind
comparison   checks, times and records all of them; the command is __main__
"""
