"""Prompts: which photograph, how the camera moves over it, and which round cut-out moves before it.

A prompt is 13 numbers, NUMBERS after the indices of its scene and its cut-out, and determines the clip: two clips of one
prompt are equal. Pictures are [-1, 1] x [-1, 1] (right and down), and so is a frame; a camera that sees the half-width w
of a picture stays inside where |x|, |y| <= 1 - w.

A scene's camera never moves in a sector of its own, 45 degrees wide, during training: held-out prompts move there alone.
"""

import math

import torch

from .photographs import CUT_OUTS, SCENES

NUMBERS = (
    "camera_x0",
    "camera_y0",
    "camera_width0",
    "camera_x1",
    "camera_y1",
    "camera_width1",
    "cut_out_x0",
    "cut_out_y0",
    "cut_out_x1",
    "cut_out_y1",
    "cut_out_radius",  # half heights of a frame
)
VALUES = 2 + len(NUMBERS)
TEXT_TOKENS = 16  # scene, cut-out, a number each, and three differences: pan, zoom, the cut-out's way
NARROWEST, WIDEST = 0.45, 0.85  # the camera's half-width
SHORTEST, LONGEST = 0.15, 0.7  # a pan
SMALLEST, LARGEST = 0.30, 0.45  # a cut-out's radius
REACH = 0.7  # of a cut-out's centre
SECTOR = math.pi / 4  # held-out directions of a scene


def sector_of(scene):
    """The middle of a scene's held-out directions, in radians. scene: int64 or float tensor."""
    return 2 * math.pi * torch.remainder(0.618034 * scene.double(), 1)


def pan_angle(prompts):
    return torch.atan2((prompts[:, 6] - prompts[:, 3]).double(), (prompts[:, 5] - prompts[:, 2]).double())


def is_held_out(prompts):
    """[count, 13] -> [count] bool."""
    apart = torch.remainder(pan_angle(prompts) - sector_of(prompts[:, 0]) + math.pi, 2 * math.pi) - math.pi
    return apart.abs() < SECTOR / 2


def _uniform(count, generator, low, high):
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


def _candidates(count, generator, held_out):
    """Random prompts whose camera may leave its picture."""
    scene = torch.randint(len(SCENES), (count,), generator=generator)
    cut_out = torch.randint(len(CUT_OUTS), (count,), generator=generator)
    apart = _uniform(count, generator, -SECTOR / 2, SECTOR / 2)
    if not held_out:
        apart = _uniform(count, generator, SECTOR / 2, 2 * math.pi - SECTOR / 2)
    angle, far = sector_of(scene) + apart, _uniform(count, generator, SHORTEST, LONGEST)
    low, high = math.log(NARROWEST), math.log(WIDEST)
    width0, width1 = (_uniform(count, generator, low, high).exp() for _ in range(2))
    x0, y0 = (_uniform(count, generator, -1, 1) * (1 - width0) for _ in range(2))
    x1, y1 = x0 + far * angle.cos(), y0 + far * angle.sin()
    ends = [_uniform(count, generator, -REACH, REACH) for _ in range(4)]
    radius = _uniform(count, generator, SMALLEST, LARGEST)
    prompts = torch.stack([scene.double(), cut_out.double(), x0, y0, width0, x1, y1, width1, *ends, radius], dim=1)
    inside = (x1.abs() <= 1 - width1) & (y1.abs() <= 1 - width1)
    return prompts[inside].float()


def draw_prompts(count, generator, held_out=False):
    """`count` random prompts of the wanted set, [count, 13] float32 on the CPU."""
    kept = torch.empty(0, VALUES)
    while len(kept) < count:
        found = _candidates(8 * count + 8, generator, held_out)
        kept = torch.cat([kept, found[is_held_out(found) == held_out]])
    return kept[:count]


def prompt_text(prompt):
    """One prompt as words: "chelsea coin camera_x0=0.1 ..."; [13] -> str."""
    names = [list(SCENES)[int(prompt[0])], list(CUT_OUTS)[int(prompt[1])]]
    return " ".join(names + [f"{name}={value:.9g}" for name, value in zip(NUMBERS, prompt[2:].tolist())])


def parse_prompt(text):
    """What prompt_text wrote -> [13] float32. Raises ValueError."""
    words = text.split()
    wanted = f"prompt: wanted SCENE CUT_OUT {NUMBERS[0]}=NUMBER ... with {len(NUMBERS)} numbers, found {text!r}"
    if len(words) != VALUES:
        raise ValueError(wanted)
    for what, known, word in (("scene", SCENES, words[0]), ("cut-out", CUT_OUTS, words[1])):
        if word not in known:
            raise ValueError(f"prompt: {what}: wanted one of {', '.join(known)}, found {word!r}")
    try:
        numbers = [float(word.removeprefix(f"{name}=")) for name, word in zip(NUMBERS, words[2:])]
    except ValueError:
        raise ValueError(wanted) from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(wanted)
    return torch.tensor([list(SCENES).index(words[0]), list(CUT_OUTS).index(words[1]), *numbers])


def add_prompt_options(parser, count):
    """--prompts, `count` unless given, --prompt and --seed."""
    parser.add_argument("--prompts", type=int, default=count, help=f"how many held-out prompts (default {count})")
    parser.add_argument(
        "--prompt", type=parse_prompt, action="append", help="as clips.json has it; instead of held-out ones"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first clip; the next clips count up")


def prompts_of(options):
    """The prompts that add_prompt_options' options ask for, [count, 13] float32 on the CPU."""
    if options.prompt:
        return torch.stack(options.prompt)
    return draw_prompts(options.prompts, torch.Generator().manual_seed(options.seed), held_out=True)
