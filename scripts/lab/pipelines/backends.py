"""Which of diffusers' attention backends is the fastest here: each takes one self-attention call of the model's size, and
is held to diffusers' own output. Those that would download a kernel are never tried."""

import contextlib
from dataclasses import dataclass

import torch

from lab.shared.relative import relative_l2

# Of relative L2: two right kernels that round probabilities and outputs to bfloat16 (unit roundoff 2^-8) differ by two or
# three roundoffs; this is five. One of 8-bit operands is off by more: its time is noted, but it is no dense baseline.
LARGEST_DISAGREEMENT = 2e-2
OWN = "native"  # what diffusers takes where nothing is chosen
NEVER = {"flex": "holds all logits unless it is compiled", "_native_math": "holds all logits"}
ELSEWHERE = ("_native_npu", "_native_xla")


@dataclass(frozen=True)
class Trial:
    name: str
    ms: float | None = None
    disagreement: float | None = None  # relative L2 against diffusers' own output
    refused: str = ""

    @property
    def counts(self):
        return not self.refused and self.disagreement is not None and self.disagreement <= LARGEST_DISAGREEMENT

    def noted(self):
        """For a record's notes."""
        if self.refused:
            return {"refused": self.refused}
        more = {} if self.counts else {"left_out": "its output differs: 8-bit operands, or wrong"}
        return {"ms": self.ms, "output_rel_l2": self.disagreement} | more


def candidates():
    from diffusers.models.attention_dispatch import AttentionBackendName

    names = [each.value for each in AttentionBackendName]
    return [name for name in names if name != OWN and "hub" not in name and name not in ELSEWHERE]


def call_of(shape, valid, device, element):
    """Random q, k, v [1, tokens, heads, head_dim] and the mask that the model makes: HunyuanVideo's padding."""
    frames, height, width = shape.grid
    video = frames * height * width
    text = shape.text_length if shape.family == "hunyuan" else 0
    generator = torch.Generator(device).manual_seed(3)
    size = 1, video + text, shape.heads, shape.head_dim
    q, k, v = (torch.randn(size, generator=generator, device=device, dtype=element) for _ in range(3))
    known = video + valid if text else video
    mask = (torch.arange(video + text, device=device) < known)[None, None, None] if text else None
    return q, k, v, mask, known


def error_text(error):
    return " ".join(str(error).split())[:160] or type(error).__name__


@torch.no_grad()
def trials(shape, valid, clock, device, element):
    """A Trial of diffusers' own attention, then of each backend."""
    from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn

    q, k, v, mask, known = call_of(shape, valid, device, element)
    wanted = dispatch_attention_fn(q, k, v, attn_mask=mask, backend=OWN)[:, :known]
    found = [Trial(OWN, clock.sample_ms(lambda: dispatch_attention_fn(q, k, v, attn_mask=mask, backend=OWN)), 0.0)]
    for name in candidates():
        if name in NEVER:
            found.append(Trial(name, refused=NEVER[name]))
            continue
        try:
            with attention_backend(name):  # says what is not installed
                attend = lambda: dispatch_attention_fn(q, k, v, attn_mask=mask, backend=name)
                output = attend()[:, :known]
                found.append(Trial(name, clock.sample_ms(attend), relative_l2(output, wanted)))
        except Exception as error:  # of many libraries, each with its own
            found.append(Trial(name, refused=error_text(error)))
    return found


@contextlib.contextmanager
def taking(transformer, name):
    """The transformer's blocks attend by this backend. HunyuanVideo's refiner of the text keeps diffusers' own: its mask
    has queries too, which some backends refuse. set_attention_backend alone would change every later model's backend."""
    from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend

    with attention_backend(name):
        transformer.set_attention_backend(name)
        for module in getattr(transformer, "context_embedder", torch.nn.Module()).modules():
            if hasattr(getattr(module, "processor", None), "_attention_backend"):
                module.processor._attention_backend = AttentionBackendName(OWN)
        try:
            yield
        finally:
            transformer.reset_attention_backend()


def best_of(found):
    """The name of the fastest whose output is right."""
    return min((each for each in found if each.counts), key=lambda each: each.ms).name
