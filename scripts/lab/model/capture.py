r"""Capture Q, K, V (after QK-norm and RoPE, text last) of chosen heads, denoising steps and prompts into a dump.

Example:

    PYTHONPATH=scripts python3 -m lab.model.capture --weights data/photodit.safetensors --grid 8x32x48 \
        --select 0:2,7:0@20 --at 10 --out build/photodit_512p.h5

--select lists heads: LAYER:HEAD at every step of --at, for every prompt; LAYER:HEAD@STEP/PROMPT at one step of one prompt,
prompts counted from 0; `all` for all heads. A capture holds the heads of one layer at one step of one prompt, and all
captures of a dump hold the same number. They are named layer<LAYER>_step<STEP>, or prompt<PROMPT>_layer<LAYER>_step<STEP>
where there are several prompts; their attribute `model_heads` holds the heads' indices in the model, `prompt` the prompt,
`timestep` the flow time in [0, 1] (1 is noise). Without --prompt the prompts are held-out ones, drawn by --seed.
"""

import argparse
import itertools
import re
from dataclasses import dataclass

import torch
from qkv_dump import DumpWriter

from .checkpoint import load_weights
from .flow import SHIFT, STEPS, sample, schedule
from .model import dense_attention
from .plan import parse_grid
from .prompts import TEXT_TOKENS, add_prompt_options, prompt_text, prompts_of
from .sample import spoken_command


@dataclass(frozen=True)
class Item:
    """A head to capture, (layer, head), at one step of one prompt; None for all: of the model, or of what is asked for."""

    place: tuple | None
    step: int | None
    prompt: int | None


def parse_selection(text):
    """'1:0,3:2@5/1,all' -> [Item]. Raises ValueError if it is malformed."""
    items = []
    for part in text.split(","):
        found = re.fullmatch(r"(?:all|(\d+):(\d+))(?:@(\d+))?(?:/(\d+))?", part)
        if not found:
            raise ValueError(f"selection: wanted all or LAYER:HEAD, with @STEP and /PROMPT or without, found {part!r}")
        layer, head, step, prompt = (None if word is None else int(word) for word in found.groups())
        items.append(Item(None if layer is None else (layer, head), step, prompt))
    return items


def calls_of(items, config, prompts, at):
    """{(prompt, layer, step): [heads]} of a selection, in order. prompts: their number; at: the steps of items without
    one. Raises ValueError if the model or the run lacks one, if one is named twice, or if calls differ in their number of
    heads, which all captures of a dump share."""
    calls = {}
    for item in items:
        if item.prompt is not None and item.prompt >= prompts:
            raise ValueError(f"selection: wanted prompts below {prompts}, found {item.prompt}")
        every = itertools.product(range(config.layers), range(config.heads))
        places = every if item.place is None else [item.place]
        chosen = range(prompts) if item.prompt is None else [item.prompt]
        for prompt, (layer, head), step in itertools.product(chosen, places, at if item.step is None else [item.step]):
            if layer >= config.layers or head >= config.heads:
                raise ValueError(
                    f"selection: wanted layers below {config.layers} and heads below {config.heads}, found {layer}:{head}"
                )
            found = calls.setdefault((prompt, layer, step), [])
            if head in found:
                raise ValueError(f"selection: wanted each head once, found {layer}:{head} at step {step} again")
            found.append(head)
    if len({len(heads) for heads in calls.values()}) != 1:
        raise ValueError(
            "selection: wanted the same number of heads of every layer, step and prompt, found "
            f"{sorted({len(heads) for heads in calls.values()})}"
        )
    return dict(sorted(calls.items()))


class Recorder:
    """An attention hook: dense attention that keeps q, k, v, o of the wanted calls, {(layer, step): [heads]}.

    `calls[layer, step]` is a dict of [heads, tokens, head_dim] CPU tensors in the model's own element type.
    """

    def __init__(self, wanted):
        self.wanted, self.calls = wanted, {}

    def __call__(self, q, k, v, *, layer, step):
        o = dense_attention(q, k, v)
        heads = self.wanted.get((layer, step))
        if heads is not None:
            if len(q) != 1:
                raise ValueError(f"capture: wanted a batch of 1 clip, found {len(q)}")
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


def capture(model, prompt, seed, grid, wanted, steps=STEPS, shift=SHIFT):
    """Run the sampler as far as the last wanted step; returns Recorder.calls. wanted {(layer, step): [heads]}. Raises
    ValueError for a step that the run lacks."""
    last = max(step for _, step in wanted)
    if last >= steps:
        raise ValueError(f"steps: wanted 0 to {steps - 1}, found {last}")
    recorder = Recorder(wanted)
    sample(model, prompt[None], [seed], grid, steps, shift, attention=recorder, stop_after=last)
    return recorder.calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True, help="dump to write (.h5)")
    parser.add_argument(
        "--select",
        type=parse_selection,
        required=True,
        help="all or LAYER:HEAD, with @STEP and /PROMPT or without, ...",
    )
    parser.add_argument("--at", default="10,20", help="steps of what --select gives none, from 0 (default 10,20)")
    parser.add_argument(
        "--grid", type=parse_grid, default=(8, 32, 48), help="FRAMESxHEIGHTxWIDTH tokens (default 8x32x48)"
    )
    add_prompt_options(parser, 1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shift", type=float, default=SHIFT)
    parser.add_argument(
        "--element",
        choices=("own", "bfloat16"),
        default="own",
        help="store q, k, v as the model has them (default) or rounded",
    )
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
    if options.with_output and options.element != "own":
        parser.error("--with-output: wanted --element own, since the output is of q, k, v as the model has them")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(options.weights, device)
    prompts = prompts_of(options)
    at = [int(step) for step in options.at.split(",")]
    wanted = calls_of(options.select, model.config, len(prompts), at)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    frames, height, width = options.grid
    source = (
        f"{spoken_command('-m lab.model.capture')}; seed {options.seed}; time shift {options.shift:g}; timestep is the flow time, "
        f"1 is noise; torch {torch.__version__} on {where}"
    )
    times = schedule(options.steps, options.shift)
    with DumpWriter(
        options.out,
        model="photodit",
        source=source,
        frames=frames,
        height=height,
        width=width,
        text_tokens=TEXT_TOKENS,
        compression=options.compression,
    ) as dump:
        for index in sorted({prompt for prompt, _, _ in wanted}):
            own = {(layer, step): heads for (prompt, layer, step), heads in wanted.items() if prompt == index}
            seed = options.seed + index
            calls = capture(model, prompts[index], seed, options.grid, own, options.steps, options.shift)
            for (layer, step), arrays in sorted(calls.items()):
                name = f"layer{layer}_step{step}" if len(prompts) == 1 else f"prompt{index}_layer{layer}_step{step}"
                error = worst_output_error(*(arrays[part].to(device) for part in "qkvo"))
                print(
                    f"{name} heads {own[layer, step]}: output against softmax(q k^T / sqrt(d)) v, "
                    f"worst relative error {error:.2e}"
                )
                if not error <= error_limit(arrays["q"]):
                    raise RuntimeError(
                        f"capture: {name}: wanted an error of at most {error_limit(arrays['q']):.2e}, found {error:.2e}"
                    )
                if options.element == "bfloat16":
                    arrays |= {part: arrays[part].to(torch.bfloat16) for part in "qkv"}
                dump.add(
                    name,
                    arrays["q"],
                    arrays["k"],
                    arrays["v"],
                    arrays["o"] if options.with_output else None,
                    layer=layer,
                    step=step,
                    timestep=times[step],
                    steps=options.steps,
                    prompt=prompt_text(prompts[index]),
                    branch="cond",
                    softmax_scale=model.config.head_dim**-0.5,
                    model_heads=own[layer, step],
                )


if __name__ == "__main__":
    main()
