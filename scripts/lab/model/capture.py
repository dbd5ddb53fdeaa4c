r"""Capture Q, K, V (after QK-norm and RoPE, text last) of chosen heads and denoising steps into a dump.

Example (the default dump; three heads of three layers, at steps 10 and 20 of 30, less one to save space):

    PYTHONPATH=scripts python3 -m lab.model.capture --weights data/minidit.safetensors --grid 8x32x48 \
        --select 0:2,1:1,7:0 --at 10,20 --skip 7@10 --out data/minidit_512p.h5

--select lists LAYER:HEAD pairs, --skip leaves out single LAYER@STEP captures. Every chosen layer needs the same
number of heads, since all captures of a dump share it. The captures are named layer<LAYER>_step<STEP>; their
attribute `model_heads` holds the heads' indices in the model, `timestep` the flow time in [0, 1] (1 is noise).
"""

import argparse

import torch
from qkv_dump import DumpWriter

from .checkpoint import load_weights
from .flow import SHIFT, STEPS, sample, schedule
from .model import dense_attention
from .plan import parse_grid
from .prompts import TEXT_TOKENS, draw_prompts, parse_prompt, prompt_text
from .sample import spoken_command


def parse_selection(text):
    """'1:0,3:2' -> {1: [0], 3: [2]}. Raises ValueError if it is malformed or the layers' head counts differ."""
    selection = {}
    for pair in text.split(","):
        layer, colon, head = pair.partition(":")
        if not colon or not layer.isdigit() or not head.isdigit():
            raise ValueError(f"selection: wanted LAYER:HEAD,..., found {pair!r}")
        heads = selection.setdefault(int(layer), [])
        if int(head) in heads:
            raise ValueError(f"selection: wanted each head once, found {pair!r} again")
        heads.append(int(head))
    if len({len(heads) for heads in selection.values()}) != 1:
        raise ValueError(f"selection: wanted the same number of heads in every layer, found {text!r}")
    return selection


def parse_skips(text):
    """'7@10,3@20' -> {(7, 10), (3, 20)}. Raises ValueError."""
    pairs = [part.split("@") for part in text.split(",")]
    if not all(len(pair) == 2 and pair[0].isdigit() and pair[1].isdigit() for pair in pairs):
        raise ValueError(f"skip: wanted LAYER@STEP,..., found {text!r}")
    return {(int(layer), int(step)) for layer, step in pairs}


class Recorder:
    """An attention hook: dense attention that keeps q, k, v, o of the chosen layers, heads and steps.

    `calls[layer, step]` is a dict of [heads, tokens, head_dim] CPU tensors in the model's own element type.
    """

    def __init__(self, selection, steps):
        self.selection, self.steps, self.calls = selection, set(steps), {}

    def __call__(self, q, k, v, *, layer, step):
        o = dense_attention(q, k, v)
        if layer in self.selection and step in self.steps:
            if len(q) != 1:
                raise ValueError(f"capture: wanted a batch of 1 clip, found {len(q)}")
            heads = self.selection[layer]
            self.calls[layer, step] = {name: x[0, heads].detach().cpu() for name, x in dict(q=q, k=k, v=v, o=o).items()}
        return o


def worst_output_error(q, k, v, o, rows=512):
    """max over elements of |o - softmax(q k^T / sqrt(d)) v| / (softmax(q k^T / sqrt(d)) |v|), in float32.

    All [heads, tokens, head_dim]. Rounding the probabilities and the output to a type of relative error u gives at
    most 2 u, plus float32's own rounding.
    """
    q, k, v, o = (x.float() for x in (q, k, v, o))
    worst = 0.0
    for start in range(0, q.shape[1], rows):
        part = slice(start, start + rows)
        p = torch.softmax(q[:, part] @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
        error = (p @ v - o[:, part]).abs() / (p @ v.abs())
        worst = max(worst, error.max().item()) if torch.isfinite(error).all() else float("nan")
    return worst


def error_limit(q):
    """The largest worst_output_error that rounding explains; q [heads, tokens, head_dim] in the model's type.

    Probabilities and output are each rounded to the type, and float32 sums of `tokens` terms are made twice.
    """
    return torch.finfo(q.dtype).eps + 2 * q.shape[1] * torch.finfo(torch.float32).eps


def capture(model, prompt, seed, grid, selection, at, steps=STEPS, shift=SHIFT):
    """Run the sampler as far as the last wanted step; returns Recorder.calls. Raises ValueError for what the model lacks."""
    config = model.config
    for layer, heads in selection.items():
        if layer >= config.layers or max(heads) >= config.heads:
            raise ValueError(
                f"selection: wanted layers below {config.layers} and heads below {config.heads}, "
                f"found layer {layer}, heads {heads}"
            )
    if not all(0 <= step < steps for step in at):
        raise ValueError(f"steps: wanted 0 to {steps - 1}, found {at}")
    recorder = Recorder(selection, at)
    sample(model, prompt[None], [seed], grid, steps, shift, attention=recorder, stop_after=max(at))
    return recorder.calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True, help="dump to write (.h5)")
    parser.add_argument("--select", type=parse_selection, required=True, help="LAYER:HEAD,...")
    parser.add_argument("--at", default="10,20", help="denoising steps to capture, counted from 0 (default 10,20)")
    parser.add_argument(
        "--skip", type=parse_skips, default=set(), help="LAYER@STEP,... to leave out (for a smaller file)"
    )
    parser.add_argument(
        "--grid", type=parse_grid, default=(8, 32, 48), help="FRAMESxHEIGHTxWIDTH tokens (default 8x32x48)"
    )
    parser.add_argument(
        "--prompt", type=parse_prompt, help="16 integers (default: a held-out prompt drawn by the seed)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shift", type=float, default=SHIFT)
    parser.add_argument("--with-output", action="store_true", help="store the model's attention output too, as `o`")
    parser.add_argument(
        "--compression",
        type=int,
        choices=range(10),
        default=9,
        metavar="0-9",
        help="gzip's level, 0 for none: large captures are written faster (default 9)",
    )
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(options.weights, device)
    prompt = options.prompt
    if prompt is None:
        prompt = draw_prompts(1, torch.Generator().manual_seed(options.seed), held_out=True)[0]
    at = [int(step) for step in options.at.split(",")]
    calls = capture(model, prompt, options.seed, options.grid, options.select, at, options.steps, options.shift)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    frames, height, width = options.grid
    source = (
        f"{spoken_command('-m lab.model.capture')}; seed {options.seed}; time shift {options.shift:g}; timestep is the flow time, "
        f"1 is noise; torch {torch.__version__} on {where}"
    )
    times = schedule(options.steps, options.shift)
    with DumpWriter(
        options.out,
        model="minidit",
        source=source,
        frames=frames,
        height=height,
        width=width,
        text_tokens=TEXT_TOKENS,
        compression=options.compression,
    ) as dump:
        for (layer, step), arrays in sorted(calls.items()):
            if (layer, step) in options.skip:
                continue
            error = worst_output_error(*(arrays[name].to(device) for name in "qkvo"))
            print(
                f"layer {layer} step {step} heads {options.select[layer]}: output against softmax(q k^T / sqrt(d)) v, "
                f"worst relative error {error:.2e}"
            )
            if not error <= error_limit(arrays["q"]):
                raise RuntimeError(
                    f"capture: layer {layer} step {step}: wanted an error of at most "
                    f"{error_limit(arrays['q']):.2e}, found {error:.2e}"
                )
            output = arrays["o"] if options.with_output else None
            dump.add(
                f"layer{layer}_step{step}",
                arrays["q"],
                arrays["k"],
                arrays["v"],
                output,
                layer=layer,
                step=step,
                timestep=times[step],
                steps=options.steps,
                prompt=prompt_text(prompt),
                branch="cond",
                softmax_scale=model.config.head_dim**-0.5,
                model_heads=options.select[layer],
            )


if __name__ == "__main__":
    main()
