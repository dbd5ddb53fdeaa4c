"""Text encoders of the real classes and sizes. Their tokenizers' vocabularies cannot be had without a download: here every
word of the prompt and of HunyuanVideo's template is a token, and random weights do not mind which."""

import functools
from dataclasses import dataclass

import torch

from .weights import build

PROMPT = (
    "A cat walks on the grass of a wide garden in the late afternoon, its fur lit from behind, while the camera follows "
    "it slowly at the height of its eyes; leaves move in the wind, a stone wall stands out of focus in the background, "
    "and the light is warm and soft, as in a film of the seventies."
)
NEGATIVE_PROMPT = "blurred, static, overexposed, worst quality, subtitles"
SEED = 2


@dataclass(frozen=True)
class Embeddings:
    """What a pipeline is called with instead of a prompt: its keyword arguments, and how many tokens are no padding."""

    given: dict
    valid: int

    def to(self, device, element):
        moved = {name: x.to(device, element if x.is_floating_point() else x.dtype) for name, x in self.given.items()}
        return Embeddings(moved, self.valid)


@functools.cache  # each record's input counts its tokens
def tokenizer():
    """Of transformers' class, with one token a word."""
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    text = " ".join((DEFAULT_PROMPT_TEMPLATE["template"], PROMPT, NEGATIVE_PROMPT))
    words = dict.fromkeys(word for word, _ in split.pre_tokenize_str(text))
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "</s>", *words])}
    found = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    found.pre_tokenizer = split
    found.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", padding_side="right"
    )


def encoder(which, words, device, element):
    """The encoder with random weights; words: its tokenizer."""
    import transformers

    ids = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": words.eos_token_id}
    config = getattr(transformers, which.config)(**which.values, **ids)
    return build(lambda: getattr(transformers, which.model)(config), device, element, SEED)


def encoding_pipeline(shape, device, element):
    """The shape's pipeline with its encoders and nothing else."""
    import diffusers

    words = tokenizer()
    made = [encoder(each, words, device, element) for each in shape.encoders]
    if shape.family == "hunyuan":
        return diffusers.HunyuanVideoPipeline(
            text_encoder=made[0],
            tokenizer=words,
            text_encoder_2=made[1],
            tokenizer_2=words,
            transformer=None,
            vae=None,
            scheduler=None,
        )
    return diffusers.WanPipeline(tokenizer=words, text_encoder=made[0], transformer=None, vae=None, scheduler=None)


@torch.no_grad()
def encode(shape, pipeline, device):
    """Embeddings by the pipeline's own encode_prompt."""
    if shape.family == "hunyuan":
        names = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
        found = pipeline.encode_prompt(PROMPT, device=device, max_sequence_length=shape.text_length)
        given = dict(zip(names, found))
        return Embeddings(given, int(given["prompt_attention_mask"].sum()))
    found = pipeline.encode_prompt(PROMPT, NEGATIVE_PROMPT, device=device, max_sequence_length=shape.text_length)
    return Embeddings(dict(zip(("prompt_embeds", "negative_prompt_embeds"), found)), valid_tokens(shape))


def valid_tokens(shape):
    """Tokens of the prompt, which no padding is; HunyuanVideo's without the template's, of which the pipeline crops 95."""
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    template = DEFAULT_PROMPT_TEMPLATE
    text = template["template"].format(PROMPT) if shape.family == "hunyuan" else PROMPT
    crop = template["crop_start"] if shape.family == "hunyuan" else 0
    return max(1, min(len(tokenizer()(text).input_ids) - crop, shape.text_length))


def tokens_in_attention(shape):
    """Tokens of text beside the video's, in self-attention."""
    if shape.family == "further":
        return shape.text_tokens
    return valid_tokens(shape) if shape.family == "hunyuan" else 0


def random_embeddings(shape, device, element):
    """Standard normal embeddings of the encoders' shapes, for steps that are timed by themselves."""
    generator = torch.Generator(device).manual_seed(SEED)
    width = shape.transformer["text_embed_dim" if shape.family == "hunyuan" else "text_dim"]

    def drawn(*size):
        return torch.randn(size, generator=generator, device=device, dtype=element)

    valid = valid_tokens(shape)
    mask = (torch.arange(shape.text_length, device=device) < valid)[None]
    if shape.family == "hunyuan":
        pooled = drawn(1, shape.transformer["pooled_projection_dim"])
        given = {"prompt_embeds": drawn(1, shape.text_length, width), "pooled_prompt_embeds": pooled}
        return Embeddings(given | {"prompt_attention_mask": mask.long()}, valid)
    names = ("prompt_embeds", "negative_prompt_embeds")  # zero behind the prompt, as the pipeline's own
    return Embeddings({name: drawn(1, shape.text_length, width) * mask[..., None] for name in names}, valid)
