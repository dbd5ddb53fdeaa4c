"""Prompts: 16 integers of 8 values each, one text token an integer.

A prompt says what a clip shows; the clip's seed says the rest (phases, positions, noise). One combination in 16 is
never trained on and serves as the held-out set.
"""

import torch

FIELDS = (
    "background_texture",
    "background_angle",
    "background_period",
    "background_palette",
    "pan_direction",
    "pan_speed",
    "zoom",
    "shade",
    "shape_count",
    "shape_kind",
    "shape_size",
    "shape_direction",
    "shape_speed",
    "shape_texture",
    "shape_palette",
    "shape_spin",
)
VALUES = 8
TEXT_TOKENS = len(FIELDS)
HELD_OUT_ONE_IN = 16
_WEIGHTS = torch.tensor([(2 * i + 1) * 7 for i in range(TEXT_TOKENS)])


def is_held_out(prompts):
    """[count, 16] int64 -> [count] bool."""
    return (prompts * _WEIGHTS).sum(-1) % HELD_OUT_ONE_IN == 0


def draw_prompts(count, generator, held_out=False):
    """`count` random prompts of the wanted set, [count, 16] int64 on the CPU."""
    kept = torch.empty(0, TEXT_TOKENS, dtype=torch.int64)
    while len(kept) < count:
        batch = torch.randint(VALUES, (2 * count + 2, TEXT_TOKENS), generator=generator)
        kept = torch.cat([kept, batch[is_held_out(batch) == held_out]])
    return kept[:count]


def prompt_text(prompt):
    """One prompt as words, e.g. 'background_texture=3 ...'; [16] -> str."""
    return " ".join(f"{name}={int(value)}" for name, value in zip(FIELDS, prompt))


def parse_prompt(text):
    """'3,0,7,...' (16 integers of 0 to 7) -> [16] int64. Raises ValueError."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"prompt: wanted {TEXT_TOKENS} integers separated by commas, found {text!r}") from None
    if len(values) != TEXT_TOKENS or not all(0 <= value < VALUES for value in values):
        raise ValueError(f"prompt: wanted {TEXT_TOKENS} integers of 0 to {VALUES - 1}, found {text!r}")
    return torch.tensor(values)


def add_prompt_options(parser, count):
    """--prompts, `count` unless given, --prompt and --seed."""
    parser.add_argument("--prompts", type=int, default=count, help=f"how many held-out prompts (default {count})")
    parser.add_argument("--prompt", type=parse_prompt, action="append", help="16 integers; instead of held-out ones")
    parser.add_argument("--seed", type=int, default=1, help="of the first clip; the next clips count up")


def prompts_of(options):
    """The prompts that add_prompt_options' options ask for, [count, 16] int64 on the CPU."""
    if options.prompt:
        return torch.stack(options.prompt)
    return draw_prompts(options.prompts, torch.Generator().manual_seed(options.seed), held_out=True)
