"""From a running pipeline to a dump: the self-attention calls asked for are written while it runs, one at a time."""

import contextlib
import math

from draftattention.diffusers import intercept_self_attention
from qkv_dump import DumpWriter

BRANCHES = ("cond", "uncond")  # a step's passes, in the order in which diffusers' pipelines make them


class CaptureError(ValueError):
    """A capture that was asked for and cannot be had."""

    def __init__(self, what, wanted, found):
        super().__init__(f"{what}: wanted {wanted}, found {found}")


class _Done(Exception):
    """The last capture is written: leaves the pipeline."""


def require_heads(model, heads):
    """The chosen heads of a transformer, all of them for None. Raises CaptureError for unknown ones."""
    count = model.config.num_attention_heads
    chosen = list(range(count)) if heads is None else list(heads)
    unknown = [head for head in chosen if head not in range(count)]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise CaptureError("heads", f"different numbers from 0 to {count - 1}", unknown[0] if unknown else chosen)
    return chosen


class _Recorder:
    """What intercept_self_attention calls: dense attention, written to the dump where it was asked for.

    `open_dump(grid, text_tokens)` gives the dump's writer once the first capture says what they are."""

    def __init__(self, open_dump, wanted, heads, output, stop, prompts):
        self.open_dump, self.heads, self.output, self.stop, self.prompts = open_dump, heads, output, stop, prompts
        self.missing = set(wanted)  # (layer, step, branch)
        self.names, self.writer, self.shape = [], None, None

    def __call__(self, call):
        step, layer = call.model.step, call.layer
        self.require_made(before=step, steps=call.model.steps)
        branch = BRANCHES[call.model.nth] if call.model.nth < len(BRANCHES) else f"pass {call.model.nth}"
        if (layer, step, branch) not in self.missing:
            return call.dense()
        o = call.dense()
        self.write(f"layer{layer}_step{step}_{branch}", call, branch, o)
        self.missing.remove((layer, step, branch))
        if self.stop and not self.missing:
            raise _Done
        return o

    def require_made(self, before, steps):
        """Raises CaptureError for captures that cannot come any more: of steps before this one, or behind the last."""
        lost = sorted(key for key in self.missing if key[1] < before or key[1] >= steps)
        if lost:
            layer, step, branch = lost[0]
            found = f"{steps} steps from 0 on" if step >= steps else "none in the run"
            raise CaptureError(f"layer{layer}_step{step}_{branch}", "such a pass of the model", found)

    def write(self, name, call, branch, o):
        if len(call.valid) != 1:
            raise CaptureError(name, "a batch of 1 video", len(call.valid))
        grid, count = call.model.grid, call.valid[0]
        text = count - math.prod(grid)
        if self.writer is None:
            self.writer, self.shape = self.open_dump(grid, text), (grid, text)
        if (grid, text) != self.shape:
            raise CaptureError(name, f"the grid and text tokens of {self.names[0]}, {self.shape}", (grid, text))
        rows = [None if x is None else x[0, :count].transpose(0, 1)[self.heads].cpu()
                for x in (call.query, call.key, call.value, o if self.output else None)]
        scale = call.scale if call.scale is not None else call.query.shape[-1] ** -0.5
        self.writer.add(name, *rows, layer=call.layer, step=call.model.step, timestep=call.model.timestep,
                        steps=call.model.steps, prompt=self.prompts.get(branch), branch=branch, softmax_scale=scale,
                        model_heads=self.heads)
        self.names.append(name)


def capture_run(pipeline, run, out, *, layers, at, heads=None, branches=("cond",), model, source, prompt=None,
                negative_prompt=None, output=True, stop=False, compression=1):
    """Runs a diffusers pipeline and writes the self-attention of chosen blocks and steps to the dump `out`.

    pipeline     WanPipeline, HunyuanVideoPipeline, or another with such a transformer and a scheduler
    run          a function without arguments that runs it, for one video: run() = pipeline(...)
    layers, at   numbers of blocks and of denoising steps, from 0; HunyuanVideo's single-stream blocks follow its others
    heads        numbers of heads to store, None: all
    branches     "cond", "uncond" or both: a step's first and, under classifier-free guidance, second pass
    model, source, prompt, negative_prompt   attributes of the dump and its captures (the latter two by branch)
    output       store `o` too, the model's own dense attention
    stop         leave the run after the last capture
    compression  gzip's level, 0 for none

    Each capture is q, k, v, o [heads, tokens, head_dim] in the model's type: video tokens, then the text tokens that
    are not padding. A capture is written before the model goes on: the tensors of one layer are held at a time. Returns
    the captures' names in the order of the run. Raises ValueError (CaptureError, DumpError) for what the model or the
    run does not have, ImportError for an unfit diffusers; then, and if the run fails, `out` is not written."""
    layers, at = list(layers), list(at)
    wanted = {(layer, step, branch) for layer in layers for step in at for branch in branches}
    unknown = sorted(set(branches) - set(BRANCHES))
    if not wanted or unknown or min(at) < 0:
        raise CaptureError("layers, steps and branches", f"some, from 0 on, of {' and '.join(BRANCHES)}",
                           (layers, at, list(branches)))
    with contextlib.ExitStack() as stack:
        def open_dump(grid, text):
            frames, height, width = grid
            return stack.enter_context(DumpWriter(out, model=model, source=source, frames=frames, height=height,
                                                  width=width, text_tokens=text, compression=compression))

        recorder = _Recorder(open_dump, wanted, None, output, stop, {"cond": prompt, "uncond": negative_prompt})
        with intercept_self_attention(pipeline, recorder, layers=layers):
            model_of = pipeline.transformer if pipeline.transformer is not None else pipeline.transformer_2
            recorder.heads = require_heads(model_of, heads)
            with contextlib.suppress(_Done):
                run()
        recorder.require_made(before=math.inf, steps=max(at) + 1)
        return recorder.names
