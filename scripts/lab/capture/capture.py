"""From a running pipeline to a dump: the self-attention calls asked for are written while it runs, one at a time."""

import contextlib
import dataclasses
import functools
import math
import os
import tempfile

from draftattention.diffusers import intercept_self_attention
from qkv_dump import DumpError, DumpWriter, replaceable

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


def require_out(out):
    """A path that a dump can be written to: new, empty or a dump. Raises CaptureError for a folder, a file of another
    kind, and a folder that is not there or cannot be written to."""
    if os.path.basename(out) == "":
        raise CaptureError("out", "a file", repr(out))
    try:
        folder = os.path.dirname(replaceable(out))
    except DumpError as error:
        raise CaptureError("out", error.wanted, f"{error.found}: {out}") from error
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CaptureError("out", "a folder that can be written to", f"{folder}: {error.strerror}") from error


class _Recorder:
    """What intercept_self_attention calls: dense attention, written to the dump where it was asked for.

    `open_dump(grid, text_tokens)` gives the dump's writer once the first capture says what they are; `guided()` says
    whether the run has unconditional passes, None: not known."""

    def __init__(self, open_dump, guided, wanted, heads, output, stop, prompts):
        self.open_dump, self.guided, self.heads, self.output, self.stop = open_dump, guided, heads, output, stop
        self.prompts = prompts
        self.missing = set(wanted)  # (layer, step, branch)
        self.first = {branch: min(key for key in wanted if key[2] == branch) for branch in {key[2] for key in wanted}}
        self.names, self.writer, self.shape = [], None, None

    def __call__(self, call):
        step, layer = call.model.step, call.layer
        self.require_made(step, call.model.steps, call.model.guidance == "batch")
        branches = self.branches_of(call)
        for branch, its in branches:
            if step == 0 and branch in self.first:
                self.require_fit(its, branch)
        o = call.dense()
        for number, (branch, its) in enumerate(branches):
            if (layer, step, branch) in self.missing:
                entries = o if its is call else o[number : number + 1]
                self.write(f"layer{layer}_step{step}_{branch}", its, branch, entries)
                self.missing.remove((layer, step, branch))
        if self.stop and not self.missing:
            raise _Done
        return o

    def guided_batch(self, call):
        """Whether half of the pass's batch is unconditional."""
        return call.model.guidance == "batch" and bool(self.guided(batch=True))

    def branches_of(self, call):
        """[(branch, the call, or its batch entry that is of it)]. Where guidance is in the batch, the unconditional entry
        comes first; elsewhere it is a pass of its own."""
        nth, batch = call.model.nth, call.model.batch
        if nth or batch != 2 or not self.guided_batch(call):
            return [(BRANCHES[nth] if nth < len(BRANCHES) else f"pass {nth}", call)]
        found = []
        for number, count in enumerate(call.valid):
            its = {name: getattr(call, name)[number : number + 1] for name in ("query", "key", "value")}
            found.append((BRANCHES[1 - call.entry - number], dataclasses.replace(call, valid=(count,), **its)))
        return found

    def require_made(self, before, steps, batch=False):
        """Raises CaptureError for captures that cannot come any more: of steps before this one, or behind the last."""
        lost = sorted(key for key in self.missing if key[1] < before or key[1] >= steps)
        if lost:
            found = f"{steps} steps from 0 on" if lost[0][1] >= steps else "none in the run"
            raise CaptureError(_name(lost[0]), "such a pass of the model", found)
        unconditional = sorted(key for key in self.missing if key[2] == BRANCHES[1])
        if unconditional and self.guided(batch=batch) is False:
            raise CaptureError(_name(unconditional[0]), "such a pass of the model", "none without guidance")

    def require_fit(self, call, branch):
        """In the first step already: raises CaptureError if what a branch holds does not go into the dump."""
        name = _name(self.first[branch])
        videos = call.model.batch // (1 + self.guided_batch(call))
        if videos != 1:
            raise CaptureError(name, "a batch of 1 video", videos)
        found = call.model.grid, call.valid[0] - math.prod(call.model.grid)
        self.shape = self.shape or found
        if found != self.shape:
            other = next(_name(key) for its, key in self.first.items() if its != branch)
            raise CaptureError(
                name,
                f"the grid and text tokens of {other}, {self.shape}",
                f"{found} (a dump of each branch holds them)",
            )

    def write(self, name, call, branch, o):
        grid, count = call.model.grid, call.valid[0]
        text = count - math.prod(grid)
        if len(call.valid) != 1 or (grid, text) != self.shape:
            wanted = f"a video with the grid and text tokens of step 0, {self.shape}"
            raise CaptureError(name, wanted, f"{len(call.valid)} with {(grid, text)}")
        if self.writer is None:
            self.writer = self.open_dump(grid, text)
        rows = [
            None if x is None else x[0, :count].transpose(0, 1)[self.heads_of(x, call)].cpu()
            for x in (call.query, call.key, call.value, o if self.output else None)
        ]
        scale = call.scale if call.scale is not None else call.query.shape[-1] ** -0.5
        self.writer.add(
            name,
            *rows,
            layer=call.layer,
            step=call.model.step,
            timestep=call.model.timestep,
            steps=call.model.steps,
            prompt=self.prompts.get(branch),
            branch=branch,
            softmax_scale=scale,
            model_heads=self.heads,
        )
        self.names.append(name)

    def heads_of(self, rows, call):
        """The chosen heads' places in tensors that may have fewer heads, each shared by some of the query's."""
        return [head * rows.shape[2] // call.query.shape[2] for head in self.heads]


def _name(key):
    return "layer{}_step{}_{}".format(*key)


def _guided(pipeline, batch=False):
    """Whether the pipeline that runs computes an unconditional branch, where it says so; None where it does not. One that
    has it in the batch does so by its scale (CogVideoX, Allegro)."""
    if getattr(pipeline, "current_timestep", None) is None:  # it does not run
        return None
    guider = getattr(pipeline, "guider", None)  # HunyuanVideo 1.5's
    if guider is not None:
        return guider.num_conditions > 1
    scale = getattr(pipeline, "guidance_scale", None) if batch else None
    return getattr(pipeline, "do_classifier_free_guidance", None if scale is None else scale > 1)


def capture_run(
    pipeline,
    run,
    out,
    *,
    layers,
    at,
    heads=None,
    branches=("cond",),
    model,
    source,
    prompt=None,
    negative_prompt=None,
    output=True,
    stop=False,
    compression=1,
):
    """Runs a diffusers pipeline and writes the self-attention of chosen blocks and steps to the dump `out`.

    pipeline     any with a scheduler and a transformer that draftattention.models lists
    run          a function without arguments that runs it, for one video: run() = pipeline(...)
    layers, at   numbers of blocks and of denoising steps, from 0; HunyuanVideo's single-stream blocks follow its others,
                 VACE's control blocks too
    heads        numbers of heads to store, None: all
    branches     "cond", "uncond" or both: with and without the prompt, where there is classifier-free guidance
    model, source, prompt, negative_prompt   attributes of the dump and its captures (the latter two by branch)
    output       store `o` too, the model's own dense attention
    stop         leave the run after the last capture
    compression  gzip's level, 0 for none

    Each capture is q, k, v, o [heads, tokens, head_dim] in the model's type: video tokens, then the tokens of text and
    other conditions that are not padding, whatever the model's own order is: all of these are the dump's text. A capture is written before the model goes on: the tensors of one layer are held at a time. Returns
    the captures' names in the order of the run. Raises ValueError (CaptureError, DumpError) for what the model or the
    run does not have, before its first step or within it where that can be known by then, and for an `out` that cannot
    be written or is a file of another kind; ImportError for an unfit diffusers. Then, and if the run fails, `out` is
    not written."""
    require_out(out)
    layers, at = list(layers), list(at)
    wanted = {(layer, step, branch) for layer in layers for step in at for branch in branches}
    unknown = sorted(set(branches) - set(BRANCHES))
    if not wanted or unknown or min(at) < 0:
        raise CaptureError(
            "layers, steps and branches", f"some, from 0 on, of {' and '.join(BRANCHES)}", (layers, at, list(branches))
        )
    with contextlib.ExitStack() as stack:

        def open_dump(grid, text):
            frames, height, width = grid
            return stack.enter_context(
                DumpWriter(
                    out,
                    model=model,
                    source=source,
                    frames=frames,
                    height=height,
                    width=width,
                    text_tokens=text,
                    compression=compression,
                )
            )

        recorder = _Recorder(
            open_dump,
            functools.partial(_guided, pipeline),
            wanted,
            None,
            output,
            stop,
            {"cond": prompt, "uncond": negative_prompt},
        )
        with intercept_self_attention(pipeline, recorder, layers=layers):
            model_of = pipeline.transformer if pipeline.transformer is not None else pipeline.transformer_2
            recorder.heads = require_heads(model_of, heads)
            with contextlib.suppress(_Done):
                run()
        recorder.require_made(before=math.inf, steps=max(at) + 1)
        return recorder.names
