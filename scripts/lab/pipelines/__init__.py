"""How long whole pipelines of diffusers take at full size: `python3 -m lab.pipelines` on a GPU of 80 GB or more.

HunyuanVideo 13B, Wan2.1 14B and 1.3B are made of diffusers' classes at their real sizes, on the GPU, with random weights:
time does not depend on what weights are, and nothing is downloaded. The pipelines are diffusers' own, so that guidance,
schedulers, latents and decoding are.

shapes.py          the models and the paper's resolutions
weights.py         modules with seeded random weights
text.py            text encoders of the real classes, and tokenizers of a made-up vocabulary
pipeline.py        one model's pipeline
running.py         some of its denoising steps, and decoding
stopwatch.py       the time of each step and part
configurations.py  what attends: diffusers' own, its best backend, our dense kernel, draft attention
backends.py        which of diffusers' attention backends is the best here
profiling.py       where a step's time goes, by class of kernel
budget.py          what a piece will take, and whether it still fits
pieces.py          what is measured, a piece at a time (mask_look.py: a draft mask, whole.py: a whole video and its file)
recorder.py        the records of that
captured.py        one layer's Q, K, V in a dump: `python3 -m lab.pipelines.captured`
parallel.py        steps on several GPUs, `python3 -m lab.pipelines.parallel` (parallel_steps.py: those of one process)
passes.py          one pass of more models: `python3 -m lab.pipelines.passes` (further.py: which, and what they are given)
sitting.py         which pieces a sitting measures; what is in the file is not measured again

A table of all models takes more time than one loan of a GPU may give: the same command, with `--minutes`, goes on where
the last one ended. All records are experiment `pipeline`; their config.part says of which part:

steps     some denoising steps of one configuration; config.turn counts the rounds, in which configurations take turns
text      both text encoders on the prompt; a warm-up before
vae       decoding one video, tiled, half; postprocessing to [0, 1] apart
file      writing the MP4
masks     the draft mask of the middle layer's call in the first step
backends  the times of diffusers' attention backends on one call
profile   one step by class of kernel (metrics), its slowest kernels and those of one attention call (notes)
capture   one layer's Q, K, V and output, written to a dump
parallel  some steps on config.ranks GPUs, and how far what they give is from one GPU's; the report's tables leave it out
pass      one pass of one of further.py's models, without text, schedule and VAE
complete  a whole video of all steps, nothing extrapolated; one that does not fit into a sitting is kept beside the file,
          OUT.SHAPE.CONFIGURATION, and the next one goes on with it

What random weights do not show: the quality of anything; how much attention the kept blocks hold, which is nearly their
share; how uneven a trained model's block rows are, which costs a sparse kernel a few percent (the report's load balance).
"""
