"""The models at their released sizes and the paper's resolutions. Values are those of the published configurations:
HunyuanVideo (hunyuanvideo-community/HunyuanVideo), Wan2.1 (Wan-AI/Wan2.1-T2V-14B-Diffusers and -1.3B-Diffusers)."""

from dataclasses import dataclass, field, replace

from lab.shared.video_time import PAPER_DENSE_STEPS, first_sparse_step

HUNYUAN_SPARSITIES, WAN_SPARSITIES = (0.6, 0.8, 0.9), (0.55, 0.6, 0.75, 0.8, 0.9)  # Figure 4 has 55 and 75% of Wan2.1


@dataclass(frozen=True)
class Encoder:
    """A text encoder of transformers: model and configuration class by name, the configuration's values."""

    model: str
    config: str
    values: dict


@dataclass(frozen=True)
class Shape:
    """One model at one resolution."""

    name: str  # as records of attention calls name it where those have it
    model: str
    family: str  # hunyuan or wan
    resolution: str  # as the paper names it
    width: int
    height: int  # pixels
    frames: int  # of the video
    transformer: dict  # configuration of HunyuanVideoTransformer3DModel or WanTransformer3DModel
    shift: float  # of the schedule
    guidance: float  # embedded in HunyuanVideo; classifier-free in Wan, which makes two passes a step
    sparsities: tuple
    encoders: tuple  # of Encoder: the first gives the prompt's embeddings, HunyuanVideo's second the pooled one
    text_length: int  # tokens of a prompt, padding included
    steps: int = 50  # of a video, as the paper counts PFLOPs and as both models are published
    vae: dict = field(
        default_factory=dict
    )  # configuration of the VAE; empty: the class's own, which is the released one

    @property
    def grid(self):
        """Video tokens: (frames, height, width). The VAEs reduce time by 4 and sides by 8; a patch is 1 x 2 x 2."""
        return (self.frames - 1) // 4 + 1, self.height // 16, self.width // 16

    @property
    def heads(self):
        return self.transformer["num_attention_heads"]

    @property
    def head_dim(self):
        return self.transformer["attention_head_dim"]

    @property
    def layers(self):
        return self.transformer["num_layers"] + self.transformer.get("num_single_layers", 0)

    @property
    def dense_steps(self):
        """Of a video with sparse attention: its first ones."""
        return first_sparse_step(PAPER_DENSE_STEPS, self.steps)

    @property
    def passes(self):
        """Of the transformer in a step."""
        return 2 if self.family == "wan" else 1


LLAMA = Encoder(
    "LlamaModel",
    "LlamaConfig",
    dict(
        vocab_size=128320,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_theta=500000.0,
    ),
)
CLIP = Encoder(
    "CLIPTextModel",
    "CLIPTextConfig",
    dict(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        projection_dim=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
    ),
)
UMT5 = Encoder(
    "UMT5EncoderModel",
    "UMT5Config",
    dict(
        vocab_size=256384,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    ),
)
HUNYUAN_768P = Shape(
    name="hunyuan_768p",
    model="HunyuanVideo 13B",
    family="hunyuan",
    resolution="768p",
    width=1280,
    height=768,
    frames=129,
    transformer=dict(
        in_channels=16,
        out_channels=16,
        num_attention_heads=24,
        attention_head_dim=128,
        num_layers=20,
        num_single_layers=40,
        num_refiner_layers=2,
        mlp_ratio=4.0,
        patch_size=2,
        patch_size_t=1,
        qk_norm="rms_norm",
        guidance_embeds=True,
        text_embed_dim=4096,
        pooled_projection_dim=768,
        rope_theta=256.0,
        rope_axes_dim=(16, 56, 56),
    ),
    shift=7.0,
    guidance=6.0,
    sparsities=HUNYUAN_SPARSITIES,
    encoders=(LLAMA, CLIP),
    text_length=256,
)
WAN_768P = Shape(
    name="wan_768p",
    model="Wan2.1 14B",
    family="wan",
    resolution="768p",
    width=1280,
    height=768,
    frames=81,
    transformer=dict(
        patch_size=(1, 2, 2),
        num_attention_heads=40,
        attention_head_dim=128,
        in_channels=16,
        out_channels=16,
        text_dim=4096,
        freq_dim=256,
        ffn_dim=13824,
        num_layers=40,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        rope_max_seq_len=1024,
    ),
    shift=5.0,
    guidance=5.0,
    sparsities=WAN_SPARSITIES,
    encoders=(UMT5,),
    text_length=512,
)
SMALL_WAN = dict(WAN_768P.transformer, num_attention_heads=12, ffn_dim=8960, num_layers=30)
AT_512P = dict(resolution="512p", width=768, height=512, shift=3.0)
WAN_1_3B_768P = replace(WAN_768P, name="wan_1.3b_768p", model="Wan2.1 1.3B", transformer=SMALL_WAN)
SHAPES = {
    shape.name: shape
    for shape in (
        HUNYUAN_768P,
        WAN_768P,
        replace(WAN_768P, name="wan_512p", **AT_512P),
        WAN_1_3B_768P,
        replace(WAN_1_3B_768P, name="wan_1.3b_512p", **AT_512P),
    )
}
