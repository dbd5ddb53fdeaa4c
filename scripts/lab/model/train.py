r"""Train photodit on clips of photographs: one sitting from nothing, or one more from a file of weights.

Example (one GPU):

    PYTHONPATH=scripts python3 -m lab.model.train --minutes 23 --log data/photodit_training.jsonl \
        --weights data/photodit.safetensors

A step draws its clips, times and noise from (seed, step) alone. How many steps a sitting makes is up to the GPU's speed.
"""

import argparse
import json
import os
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from lab.shared.files import rows_with

from .checkpoint import load_weights, notes_of, save_weights
from .flow import shift_time
from .held_out import HeldOut, clip_losses
from .model import PhotoDiT
from .plan import Plan, learning_rate
from .prompts import draw_prompts
from .video import render

PLAN = "0.42@8x16x24*32,0.58@8x32x48*8+8x32x48*8+8x32x48*8+8x16x24*32"
BACKENDS = {
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
}


def draw_times(count, generator):
    """Flow times of a batch, [count]: three quarters logit-normal, bent by a shift of 3, the rest uniform."""
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count  # one in each of `count` shares
    normal = torch.special.ndtri(spread.clamp(1e-4, 1 - 1e-4)).sigmoid()
    even = spread[torch.randperm(count, generator=generator)]
    chosen = torch.rand(count, generator=generator) < 0.75
    return torch.where(chosen, shift_time(normal, 3.0), even).clamp(1e-3, 1.0)


class Trainer:
    """Model, its exponential moving average, optimizers and step counter; one method a training step."""

    def __init__(self, model, plan, seed=0, muon=0.012, adam=1.5e-3, average=0.998, first_step=0, compiled=False):
        self.model, self.plan, self.seed, self.average = model, plan, seed, average
        self.device = next(model.parameters()).device
        self.ema = PhotoDiT(model.config).to(self.device).requires_grad_(False)
        self.ema.load_state_dict(model.state_dict())
        matrices = [p for name, p in model.blocks.named_parameters() if p.ndim == 2 and ".ada." not in name]
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        on_gpu = self.device.type == "cuda"
        self.optimizers = [
            torch.optim.Muon(matrices, lr=muon, weight_decay=0.01, momentum=0.95, nesterov=True),
            torch.optim.AdamW(others, lr=adam, betas=(0.9, 0.95), weight_decay=0.01, fused=on_gpu),
        ]
        self.peaks = (muon, adam)
        self.step, self.first_step = first_step, first_step
        if compiled:  # block by block: all blocks share one compiled graph a grid
            for block in self.model.blocks:
                block.compile(dynamic=False)

    def draw(self, batch, step):
        """(clips, noise, t, prompts) of a step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        prompts = draw_prompts(batch.clips, generator)
        t = draw_times(batch.clips, generator).to(self.device)
        frames, height, width = batch.grid
        patch = self.model.config.patch
        clips = render(prompts, frames, height * patch, width * patch, self.device)
        device_generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
        noise = torch.randn(clips.shape, generator=device_generator, device=self.device)
        return clips, noise, t, prompts.to(self.device)

    def train_step(self, spent):
        """One step of both optimizers; returns the mean loss as a tensor on the device (no synchronisation)."""
        batch = self.plan.batch(self.step, spent)
        for optimizer, peak in zip(self.optimizers, self.peaks):
            for group in optimizer.param_groups:
                group["lr"] = peak * learning_rate(self.step - self.first_step, spent)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = clip_losses(self.model, *self.draw(batch, self.step)).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        made = self.step - self.first_step
        with torch.no_grad():
            weight = 1 - min(self.average, (1 + made) / (10 + made))
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), weight)
        self.step += 1
        return loss.detach()


class Log:
    """JSON lines; rows of steps after `step` (from a run that was cut off) are dropped on opening."""

    def __init__(self, path, step):
        rows = []
        if step and os.path.exists(path):
            rows = [row for row in rows_with(path, ("step",)) if row["step"] <= step]
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._file = open(path, "w")
        for row in rows:
            self.write(**row)

    def write(self, **row):
        text = json.dumps(
            {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}
        )
        self._file.write(text + "\n")
        self._file.flush()
        return text


def run(trainer, held_out, log, seconds, log_every, held_out_every, save):
    """Train until `seconds` have passed; save() at every held-out loss. Raises RuntimeError if the loss is not finite."""
    begun, recent = time.monotonic(), []
    spent = 0.0
    while spent < 1:
        recent.append(trainer.train_step(spent))
        if trainer.step % 5 == 0 and trainer.device.type == "cuda":
            torch.cuda.synchronize()  # or the host would run ahead of the time that is spent
        elapsed = time.monotonic() - begun
        spent = elapsed / seconds
        if trainer.step % log_every and spent < 1:
            continue
        loss, recent = torch.stack(recent).mean().item(), []
        text = log.write(kind="train", step=trainer.step, loss=loss, seconds=round(elapsed, 1))
        if not loss < float("inf"):
            raise RuntimeError(f"training diverged: loss {loss} at step {trainer.step}")
        if trainer.step % held_out_every == 0 or spent >= 1:
            mean, by_time = held_out.loss(trainer.ema)
            text = log.write(kind="held_out", step=trainer.step, loss=mean, by_time=[round(x, 5) for x in by_time])
            save()
            print(text, f"{elapsed:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", required=True, help="the moving average, written with every held-out loss and at the end"
    )
    parser.add_argument("--start", metavar="WEIGHTS", help="go on from these weights, of an earlier sitting")
    parser.add_argument("--log", required=True, help="JSON lines of train and held-out loss")
    parser.add_argument("--minutes", type=float, required=True, help="how long the sitting trains")
    parser.add_argument("--plan", default=PLAN, help="SHARE@GRID*CLIPS[+GRID*CLIPS...],... (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--muon", type=float, default=0.012, help="learning rate of the blocks' matrices (%(default)s)")
    parser.add_argument("--adam", type=float, default=1.5e-3, help="learning rate of all others (default %(default)s)")
    parser.add_argument("--average", type=float, default=0.998, help="of the moving average (default %(default)s)")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="cudnn", help="of the dense attention")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--log-every", type=int, default=25, help="steps")
    parser.add_argument("--held-out-every", type=int, default=500, help="steps; a multiple of --log-every")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch._dynamo.config.recompile_limit = 64
    torch.manual_seed(options.seed)
    plan, notes = Plan(options.plan), notes_of(options.start) if options.start else {}
    model = load_weights(options.start, device).train().requires_grad_(True) if options.start else PhotoDiT().to(device)
    before = int(notes.get("steps", 0))
    trainer = Trainer(
        model,
        plan,
        options.seed,
        options.muon,
        options.adam,
        options.average,
        first_step=before,
        compiled=device.type == "cuda" and not options.no_compile,
    )
    log = Log(options.log, before)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        log.write(
            kind="start",
            step=before,
            plan=plan.text,
            minutes=options.minutes,
            seed=options.seed,
            gpu=name,
            torch=torch.__version__,
            muon=options.muon,
            adam=options.adam,
            average=options.average,
            parameters=sum(p.numel() for p in model.parameters()),
        ),
        flush=True,
    )
    begun = time.monotonic()
    sittings = notes.get("sittings", "")

    def all_seconds():
        return float(notes.get("seconds", 0)) + time.monotonic() - begun

    def save():
        save_weights(
            options.weights,
            trainer.ema,
            dict(
                steps=str(trainer.step),
                seconds=f"{all_seconds():.0f}",
                seed=str(options.seed),
                sittings=f"{sittings}; {plan.text}" if sittings else plan.text,
            ),
        )

    held_out = HeldOut(model.config, device)
    with sdpa_kernel(BACKENDS[options.backend], set_priority=True):
        run(trainer, held_out, log, 60 * options.minutes, options.log_every, options.held_out_every, save)
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
    print(f"steps {before} to {trainer.step}, {all_seconds():.0f} s in all sittings{memory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
