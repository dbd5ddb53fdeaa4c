r"""minidit: a small video diffusion transformer, trained from scratch on procedural video.

It stands in for the large video models whose checkpoints are tens of gigabytes: same attention (joint over video
and text tokens, head_dim 128, QK-RMSNorm, 3-D RoPE), same kind of sampler (rectified flow, shifted Euler steps),
15 M parameters. Its Q/K/V are captured, and its videos generated, by the commands below; all run from the
repository root with `PYTHONPATH=scripts` and one GPU.

    retrain      python3 -m lab.model.train --checkpoint build/minidit.pt --log data/minidit_training.jsonl \
                     --weights data/minidit.safetensors
    sample       python3 -m lab.model.sample --weights data/minidit.safetensors --sheet data/minidit_samples.png
    rank heads   python3 -m lab.model.heads --weights data/minidit.safetensors --table data/minidit_heads.csv
    recapture    python3 -m lab.model.capture --weights data/minidit.safetensors --select 0:2,1:1,7:0 --at 10,20 \
                     --skip 7@10 --out data/minidit_512p.h5
                 python3 -m lab.model.capture --weights data/minidit.safetensors --grid 2x30x52 --select 3:1 --at 10 \
                     --out data/minidit_ragged.h5
    manifest     python3 -m lab.model.manifest --data data

Files: `prompts` (what a prompt is), `video` and `textures` (the procedural clips), `rope`, `model`, `flow` (loss and
sampler), `plan`, `held_out`, `train`, `checkpoint`, `sample`, `sheet` (pictures), `capture`, `heads`
(what each head attends to), `manifest`. Every command prints an example with --help. Shipped files name the commands
that made them `minidit.NAME`, as the package was called then.
"""
