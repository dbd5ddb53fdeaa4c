r"""photodit: a small video diffusion transformer of photographs under camera motion.

A prompt says which photograph, how the camera moves over it and which cut-out moves before it, and so determines the
clip: what a mask breaks can be seen, and counted against the true clip as well as against the dense one. It is to take
the place of `lab.model`'s minidit, whose weights, dumps and videos are what data/ and results/ hold today; photodit's
weights are not shipped yet. Attention, sampler, policies and pictures are lab.model's. All commands run from the
repository root with `PYTHONPATH=scripts`.

    photographs  python3 -m lab.photo.photographs --out data/photographs.png
    train        python3 -m lab.photo.train --minutes 9.1 --log build/photodit_training.jsonl \
                     --weights build/photodit.safetensors
    go on        python3 -m lab.photo.train --start build/photodit.safetensors --minutes 4.1 --muon 0.006 --adam 0.0007 \
                     --plan 1@8x32x48*8+8x32x48*8+8x32x48*8+8x16x24*32 --log build/photodit_training.jsonl \
                     --weights build/photodit.safetensors
    judge        python3 -m lab.photo.judge --weights build/photodit.safetensors --sheet build/photodit.png

Those two sittings on one H200 gave 20.5 dB to the true clips of 54 held-out prompts (19.3 after the first), every scene
and every cut-out right. After the first, with 90% of all blocks left out in every step, random blocks were at 13.8 dB
from the dense clips and oracle blocks by row at 22.4; with the first quarter of the steps dense the draft at 60, 80 and
90% was at 35.7, 29.3 and 25.4, max pooling at 19.9 (6 clips). These are one run's figures without a record.

Files: `photographs` (where they come from), `prompts`, `video` (the true clip), `rope`, `model`, `plan`, `held_out`,
`train`, `checkpoint` (weights in 8 bits), `judge`.
"""
