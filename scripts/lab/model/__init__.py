r"""photodit: a small video diffusion transformer of photographs under camera motion, trained from scratch.

It stands in for the large video models whose checkpoints are tens of gigabytes: same attention (joint over video
and text tokens, head_dim 128, QK-RMSNorm, 3-D RoPE), same kind of sampler (rectified flow, shifted Euler steps), 27 M
parameters. A prompt says which photograph, how the camera moves over it and which cut-out moves before it, and so
determines the clip: what a mask breaks can be seen, and counted against the true clip as well as against the dense one.
All commands run from the repository root with `PYTHONPATH=scripts` and one GPU; a CPU does all but train, in minutes.

    photographs  python3 -m lab.model.photographs --out data/photographs.png
    train        python3 -m lab.model.train --minutes 23 --log data/photodit_training.jsonl \
                     --weights data/photodit.safetensors
    go on        python3 -m lab.model.train --start data/photodit.safetensors --minutes 9 --muon 0.006 --adam 0.0007 \
                     --plan 1@8x32x48*8+8x32x48*8+8x32x48*8+8x16x24*32 --log build/photodit_training.jsonl \
                     --weights build/photodit.safetensors
    judge        python3 -m lab.model.judge --weights data/photodit.safetensors --sheet build/photodit.png
    sample       python3 -m lab.model.sample --weights data/photodit.safetensors --sheet data/photodit_samples.png
    rank heads   python3 -m lab.model.heads --weights data/photodit.safetensors --table data/photodit_heads.csv
    recapture    python3 -m lab.model.capture with --select, --grid and --out as data/manifest.json has them
    manifest     python3 -m lab.model.manifest --data data

Files: `photographs` (where they come from), `prompts`, `video` (the true clip), `rope`, `model`, `flow` (sampler), `plan`,
`held_out`, `train`, `checkpoint` (weights in 8 bits), `judge`, `sample`, `sheet` (pictures), `capture`, `heads` (what each
head attends to), `policies`, `generate`, `manifest`. Every command prints an example with --help.
"""
