"""What the tests on diffusers' video models share: tiny random pipelines of the real classes, without encoders."""

import diffusers
import torch

torch.set_num_threads(1)  # the tensors are tiny: threads would wait for each other
SPARSE = dict(sparsity=0.7, region=(4, 4), dense_steps=0)  # draft attention in every step
GRID, VALID, TEXT = (2, 6, 10), 5, 9  # of latents 2 x 12 x 20; 4 of HunyuanVideo's 9 text tokens are padding


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Case:
    """A tiny pipeline, and run(), which makes a latent video [1, 4, 2, 12, 20] of it."""

    def __init__(self, pipeline, embeds):
        self.pipeline, self.transformer, self.embeds = pipeline, pipeline.transformer, embeds
        self.latents = numbers(1, 4, 2, 12, 20)
        pipeline.set_progress_bar_config(disable=True)

    def to(self, device, dtype):
        self.transformer.to(device, dtype)
        self.embeds = {
            name: x.to(device, dtype if x.is_floating_point() else x.dtype) for name, x in self.embeds.items()
        }
        self.latents = self.latents.to(device)
        return self

    def run(self, steps=4, **changed):
        given = {"num_inference_steps": steps, "guidance_scale": 4.0, "latents": self.latents}
        return self.pipeline(
            height=96,
            width=160,
            num_frames=5,
            output_type="latent",
            return_dict=False,
            **(self.embeds | given | changed),
        )[0]


def wan(boundary_ratio=None, head_dim=32, heads=2):
    """A Wan pipeline of 3 blocks; with a boundary ratio of two such transformers, as Wan 2.2's."""
    torch.manual_seed(0)
    first, second = (
        diffusers.WanTransformer3DModel(
            num_attention_heads=heads,
            attention_head_dim=head_dim,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=16,
            ffn_dim=64,
            num_layers=3,
        ).eval()
        for _ in range(2)
    )
    pipeline = diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        transformer=first,
        boundary_ratio=boundary_ratio,
        transformer_2=None if boundary_ratio is None else second,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    return Case(pipeline, {"prompt_embeds": numbers(1, 7, 16), "negative_prompt_embeds": numbers(1, 7, 16, seed=1)})


def hunyuan(head_dim=32, heads=2, text=TEXT, valid=VALID):
    """A HunyuanVideo pipeline of 2 dual-stream and 2 single-stream blocks; `valid` of its text tokens are no padding."""
    torch.manual_seed(0)
    model = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(head_dim // 4, 3 * head_dim // 8, 3 * head_dim // 8),
    ).eval()
    pipeline = diffusers.HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        vae=None,
        transformer=model,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )
    return Case(
        pipeline,
        {
            "prompt_embeds": numbers(1, text, 16),
            "pooled_prompt_embeds": numbers(1, 8),
            "prompt_attention_mask": text_mask([valid], text),
        },
    )


def one_pass(model):
    """A Wan transformer's output in one pass, [1, 4, 2, 12, 20]."""
    with torch.no_grad():
        return model(
            hidden_states=numbers(1, 4, 2, 12, 20),
            timestep=torch.tensor([900.0]),
            encoder_hidden_states=numbers(1, 7, 16),
            return_dict=False,
        )[0]


def processors(model):
    """Of its blocks' self-attention."""
    return [block.attn1.processor for block in model.blocks]


def text_mask(valid, text=TEXT):
    """int64 [len(valid), text]: 1 for each entry's first tokens."""
    return (torch.arange(text) < torch.tensor(valid)[:, None]).long()


def hunyuan_pass(model, entries, valid):
    """One pass of a HunyuanVideo transformer over some of two videos (a slice) with len(valid) prompts, in float64."""
    latents, embeds, pooled = (numbers(2, *shape)[entries].double() for shape in ((4, 2, 12, 20), (TEXT, 16), (8,)))
    time, guidance = torch.full((len(valid),), 500.0), torch.full((len(valid),), 6000.0, dtype=torch.float64)
    return model(latents, time, embeds, text_mask(valid).double(), pooled, guidance, return_dict=False)[0]
