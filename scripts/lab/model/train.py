r"""Train minidit from scratch on procedural video; stop, and go on later from the checkpoint.

Example (one GPU; repeat the same command until it says that the plan is done):

    PYTHONPATH=scripts python3 -m lab.model.train --checkpoint build/minidit.pt --minutes 9.5 \
        --log data/minidit_training.jsonl --weights data/minidit.safetensors

Every step draws its clips, times and noise from (seed, step) alone, so that a resumed run sees exactly what an
unbroken one would have seen.
"""

import argparse
import json
import os
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from lab.shared.files import rows_with

from .checkpoint import load_checkpoint, save_checkpoint, save_weights
from .flow import flow_losses, shift_time
from .held_out import HeldOut
from .model import MiniDiT, ModelConfig
from .plan import Plan
from .prompts import draw_prompts
from .video import render

PLAN = "3000@8x16x24*32,4550@8x32x48*8"
BACKENDS = {
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
}


class Trainer:
    """Model, its exponential moving average, optimizer and step counter; one method a training step."""

    def __init__(self, config, plan, device, seed=0, peak=1e-3, average=0.999, compiled=False):
        torch.manual_seed(seed)
        self.plan, self.device, self.seed, self.peak, self.average = plan, torch.device(device), seed, peak, average
        self.model = MiniDiT(config).to(self.device)
        self.ema = MiniDiT(config).to(self.device).requires_grad_(False)
        self.ema.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01, fused=self.device.type == "cuda"
        )
        self.step, self.seconds = 0, 0.0
        if compiled:  # block by block: all blocks share one compiled graph a grid
            for block in self.model.blocks:
                block.compile(dynamic=False)

    def draw(self, step):
        """(clips, noise, t, prompts) of a step."""
        batch, config = self.plan.batch(step), self.model.config
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        prompts = draw_prompts(batch.clips, generator)
        seeds = torch.randint(2**62, (batch.clips,), generator=generator).tolist()
        spread = (torch.arange(batch.clips) + torch.rand(batch.clips, generator=generator)) / batch.clips
        t = shift_time(spread, 1.5).to(self.device)
        frames, height, width = batch.grid
        clips = render(prompts, seeds, frames, height * config.patch, width * config.patch, self.device)
        device_generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
        noise = torch.randn(clips.shape, generator=device_generator, device=self.device)
        return clips, noise, t, prompts.to(self.device)

    def train_step(self):
        """One optimizer step; returns the mean loss as a tensor on the device (no synchronisation)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate(self.step, self.peak)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = flow_losses(self.model, *self.draw(self.step)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        weight = 1 - min(self.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), weight)
        self.step += 1
        return loss.detach()

    def state(self):
        return dict(
            model=self.model.state_dict(),
            ema=self.ema.state_dict(),
            optimizer=self.optimizer.state_dict(),
            step=self.step,
            seconds=self.seconds,
            seed=self.seed,
            config=self.model.config.as_dict(),
        )

    def load(self, state):
        """Go on from state(). Raises ValueError if the model or the seed is another."""
        for name, own in (("config", self.model.config.as_dict()), ("seed", self.seed)):
            if state[name] != own:
                raise ValueError(f"checkpoint: wanted {name} {own}, found {state[name]}")
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


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


def run(trainer, held_out, log, minutes, log_every, held_out_every, save):
    """Train until the plan ends or `minutes` have passed; returns True when the plan is done."""
    begun, before, recent = time.monotonic(), trainer.seconds, []
    while trainer.step < trainer.plan.steps:
        recent.append(trainer.train_step())
        if trainer.step % log_every and trainer.step < trainer.plan.steps:
            continue
        loss = torch.stack(recent).mean().item()  # synchronises
        trainer.seconds, recent = before + time.monotonic() - begun, []
        grid = "x".join(map(str, trainer.plan.batch(trainer.step - 1).grid))
        text = log.write(kind="train", step=trainer.step, loss=loss, grid=grid, seconds=round(trainer.seconds, 1))
        if not loss < float("inf"):
            raise RuntimeError(f"training diverged: loss {loss} at step {trainer.step}")
        if trainer.step % held_out_every == 0 or trainer.step == trainer.plan.steps:
            mean, by_time = held_out.loss(trainer.ema)
            text = log.write(kind="held_out", step=trainer.step, loss=mean, by_time=[round(x, 5) for x in by_time])
            print(text, flush=True)
        elif trainer.step % (20 * log_every) == 0:
            print(text, flush=True)
        if time.monotonic() - begun > 60 * minutes:
            break
    trainer.seconds = before + time.monotonic() - begun
    save()
    return trainer.step >= trainer.plan.steps


def add_training_options(parser):
    """How a GPU trains and how often it says so."""
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="cudnn", help="of the dense attention")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--log-every", type=int, default=25, help="steps")
    parser.add_argument("--held-out-every", type=int, default=500, help="steps; a multiple of --log-every")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="written at the end; resumed from if it exists")
    parser.add_argument("--log", required=True, help="JSON lines of train and held-out loss")
    parser.add_argument("--weights", required=True, help="EMA weights, bfloat16 safetensors")
    parser.add_argument("--plan", default=PLAN, help="STEPS@GRID*CLIPS[+GRID*CLIPS...],... (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    add_training_options(parser)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch._dynamo.config.recompile_limit = 64
    config, plan = ModelConfig(), Plan(options.plan)
    trainer = Trainer(
        config,
        plan,
        device,
        options.seed,
        options.learning_rate,
        compiled=device.type == "cuda" and not options.no_compile,
    )
    if os.path.exists(options.checkpoint):
        trainer.load(load_checkpoint(options.checkpoint, device))
    log = Log(options.log, trainer.step)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        log.write(
            kind="start",
            step=trainer.step,
            plan=plan.text,
            seed=options.seed,
            gpu=name,
            torch=torch.__version__,
            learning_rate=options.learning_rate,
            parameters=sum(p.numel() for p in trainer.model.parameters()),
        ),
        flush=True,
    )

    def save():
        save_checkpoint(options.checkpoint, **trainer.state())
        save_weights(
            options.weights,
            trainer.ema,
            dict(steps=str(trainer.step), plan=plan.text, seed=str(options.seed), seconds=f"{trainer.seconds:.0f}"),
        )

    with sdpa_kernel(BACKENDS[options.backend], set_priority=True):
        done = run(
            trainer, HeldOut(config, device), log, options.minutes, options.log_every, options.held_out_every, save
        )
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
    print(
        f"step {trainer.step} of {plan.steps}, {trainer.seconds:.0f} s{memory}" + (": the plan is done" if done else "")
    )


if __name__ == "__main__":
    main()
