"""Draft attention in the video models of diffusers beside Wan and HunyuanVideo, on tiny random ones of the real classes:
held to each model's own processor, which PyTorch's masked attention gives the mask."""

import importlib
import math
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from draftattention.diffusers import apply_draft_attention, intercept_self_attention
from draftattention.models import ADAPTERS
from model_cases import CASES, KEPT, REGION
from torch_cases import plain_selection

SPARSITY = 0.7
SPARSE = {"sparsity": SPARSITY, "region": REGION, "dense_steps": 0, "kernel": "torch", "steps": 4}
DOUBLED = torch.nn.functional.scaled_dot_product_attention  # PyTorch's own, also while it is replaced


def draft_keep(q, k, labels):
    """bool [tokens, tokens] of one head's q and k [tokens, dim] in the model's order: the blocks whose pooled scores are
    highest in the softmax, and everything of tokens that are in no region."""
    labels = torch.tensor(labels)
    count = int(labels.max()) + 1
    queries, keys = (torch.stack([x[labels == number].mean(dim=0) for number in range(count)]) for x in (q, k))
    scores = torch.softmax(queries @ keys.T / math.sqrt(q.shape[1]), dim=-1)
    mask = torch.tensor(plain_selection(scores.tolist(), "softmax", SPARSITY))
    keep = mask[labels][:, labels]
    keep[labels == KEPT], keep[:, labels == KEPT] = True, True
    return keep


def explicit(labels_of, seen):
    """PyTorch's attention, [batch, heads, tokens, dim], with the draft mask beside the model's own in self-attention."""

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **others):
        tokens = query.shape[2]
        labels = labels_of(tokens) if key.shape[2] == tokens else None
        if labels is None:
            return DOUBLED(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, **others)
        valid = torch.ones(len(query), 1, tokens, dtype=torch.bool)
        if attn_mask is not None:
            valid = attn_mask[:, :, 0]  # the first token is valid: its row says which keys are
        keep = torch.empty(*query.shape[:2], tokens, tokens, dtype=torch.bool)
        for entry, head in [(e, h) for e in range(len(query)) for h in range(query.shape[1])]:
            keep[entry, head] = draft_keep(query[entry, head], key[entry, head], labels)
        seen.append(tokens)
        return DOUBLED(query, key, value, attn_mask=keep & valid[:, :, None], **others)

    return attend


def masked_pass(case, model, labels_of):
    """The model's output with the mask put explicitly into its own processors' attention, and the calls' tokens."""
    seen: list[int] = []
    attend = explicit(labels_of, seen)
    if not case.place:
        with mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", attend):
            return case.one_pass(model), seen

    def dispatched(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **others):
        rows = (x.transpose(1, 2) for x in (query, key, value))
        return attend(*rows, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal).transpose(1, 2)

    with mock.patch.object(importlib.import_module(case.place), "dispatch_attention_fn", dispatched):
        return case.one_pass(model), seen


def difference(a, b):
    return (a - b).abs().max().item()


def tolerance_of(case, model):
    """What rounding may do to the output of a pass in float64. It changes attention by at most about 2 tokens eps <
    2^-43 of itself; this is what 2^-30 does, the model's own growth, measured, and 2^13 for the direction that was not
    tried and for the norms that some models keep in float32."""
    before = case.one_pass(model)
    with intercept_self_attention(model, lambda call: call.dense() * (1 + 2.0**-30), steps=4):
        found = difference(case.one_pass(model), before)
    assert 0 < found < 2.0**-18 * before.abs().max().item()
    return before, found


@pytest.mark.parametrize("name", CASES)
def test_dense_and_sparsity_zero_are_the_model(name):
    """Given a pass, claim: dense steps change no bit, sparsity 0 changes nothing but rounding, remove() restores."""
    case = CASES[name]()
    model = case.transformer()
    before, tolerance = tolerance_of(case, model)
    with apply_draft_attention(model, **(SPARSE | {"dense_steps": 1})) as control:
        assert torch.equal(case.one_pass(model), before)
    assert control.calls == control.dense_calls > 0
    with apply_draft_attention(model, **(SPARSE | {"sparsity": 0.0})) as control:
        assert difference(case.one_pass(model), before) <= tolerance
    assert control.calls == control.sparse_calls >= case.layers
    with apply_draft_attention(model, **SPARSE):
        assert difference(case.one_pass(model), before) > tolerance  # what the line above could have missed
    assert torch.equal(case.one_pass(model), before)


@pytest.mark.parametrize("name", CASES)
def test_draft_attention_is_the_model_s_own_with_the_mask(name):
    """Given a pass, claim: the output is that of the model's own processors under PyTorch's attention with the draft mask
    of labels written by hand; not with a grid whose height and width are exchanged, nor with tokens in another order."""
    case = CASES[name]()
    model = case.transformer()
    _, tolerance = tolerance_of(case, model)
    wanted, seen = masked_pass(case, model, case.labels)
    with apply_draft_attention(model, **SPARSE) as control:
        found = case.one_pass(model)
    assert control.sparse_calls == len(seen) > 0
    assert torch.isfinite(wanted).all()
    assert difference(found, wanted) <= tolerance

    def reversed_order(tokens):
        labels = case.labels(tokens)
        return labels and labels[::-1]

    def exchanged(tokens):
        labels, frames = case.labels(tokens), case.grid[0]
        if labels is None:
            return None
        video = torch.tensor([its for its in labels if its != KEPT]).view(case.grid)
        other = iter(video.transpose(1, 2).reshape(frames, -1).flatten().tolist())
        return [its if its == KEPT else next(other) for its in labels]

    for wrong in (reversed_order, exchanged):
        assert difference(masked_pass(case, model, wrong)[0], found) > tolerance, wrong.__name__


@pytest.mark.parametrize("name", CASES)
def test_calls_have_the_video_first_with_its_grid(name):
    """Given a pass, claim: each call's grid is the model's; its first tokens are the video in the model's order, whose own
    attention output is dense()."""
    case = CASES[name]()
    model = case.transformer()
    calls = []

    def attend(call):
        calls.append(call)
        return call.dense()

    with intercept_self_attention(model, attend, steps=4):
        case.one_pass(model)
    for call in calls:
        assert call.model.grid == case.grid
        tokens = call.query.shape[1]
        labels = case.labels(tokens)
        video = math.prod(case.grid)
        assert all(count >= video for count in call.valid)
        assert len([its for its in labels if its != KEPT]) == video
        for entry, count in enumerate(call.valid):
            q, k, v, o = (x[entry, :count].transpose(0, 1) for x in (call.query, call.key, call.value, call.dense()))
            p = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)
            reach = (q.abs() @ k.abs().transpose(1, 2)).max() / math.sqrt(q.shape[-1])
            bound = (4 * q.shape[-1] * reach + 2 * count + 1) * torch.finfo(torch.float64).eps * (p @ v.abs())
            assert ((o - p @ v).abs() <= bound).all()
            assert not ((o - (p @ v).roll(1, 1)).abs() <= bound).all()
    entries = {(call.layer, entry + call.entry) for call in calls for entry in range(len(call.query))}
    assert entries == {(layer, entry) for layer in range(case.layers) for entry in range(case.entries)}


class Refusals(unittest.TestCase):
    def refused(self, message, case, model, **changed):
        with apply_draft_attention(model, **SPARSE), self.assertRaisesRegex(ValueError, message) as caught:
            case.one_pass(model, **changed)
        self.assertNotIn("\n", str(caught.exception))

    def test_causal_blocks_of_frames(self):
        case = CASES["skyreels_v2"]()
        model = case.transformer()
        model._set_ar_attention(2)  # one block of 2 frames: nothing is masked
        with apply_draft_attention(model, **SPARSE) as control:
            case.one_pass(model)
        self.assertEqual(control.sparse_calls, 2)
        longer = torch.cat([case.given["hidden_states"]] * 2, dim=2)
        message = r"attn_mask: wanted .*, found .*\[1, 1, 240, 240\] that is no mask of padding, such as a causal one"
        self.refused(message, case, model, hidden_states=longer)

    def test_coordinates_in_place_of_a_grid(self):
        case = CASES["ltx_video"]()
        coordinates = torch.zeros(2, 3, 120)
        self.refused("num_frames, height, width: .*coordinates", case, case.transformer(), video_coords=coordinates)
        self.refused("num_frames, height, width: .*None", case, case.transformer(), width=None, video_coords=None)

    def test_a_mask_of_latents(self):
        case = CASES["allegro"]()
        mask = torch.ones(2, 2, 12, 20)
        mask[:, :, 6:] = 0
        self.refused("attn_mask: wanted bool", case, case.transformer(), attention_mask=mask)

    def test_tokens_that_are_not_the_grid_s(self):
        case = CASES["ltx_video"]()
        model = case.transformer()
        coordinates = dict(num_frames=2, height=6, width=9)
        with mock.patch.object(model.rope, "forward", return_value=model.rope(torch.zeros(2, 120, 8), 2, 6, 10)):
            self.refused("layer 0: wanted self-attention of 2 x 6 x 9 = 108 tokens, found", case, model, **coordinates)

    def test_every_model_of_the_list_is_tested_or_named(self):
        tested = {make().kind for make in CASES.values()} | {"WanTransformer3DModel", "HunyuanVideoTransformer3DModel"}
        self.assertEqual({its.name for its in ADAPTERS}, tested)
        with self.assertRaisesRegex(ValueError, "model: wanted .*AllegroTransformer3DModel.*, found WanAnimate2"):
            apply_draft_attention(type("WanAnimate2", (torch.nn.Module,), {})(), steps=1)
        case = CASES["allegro"]()
        with mock.patch.object(diffusers, "MochiTransformer3DModel", None):
            message = "there is no MochiTransformer3DModel in the diffusers that is installed, found Linear"
            with self.assertRaisesRegex(ValueError, message):
                apply_draft_attention(torch.nn.Linear(1, 1), steps=1)
            apply_draft_attention(case.transformer(), steps=1).remove()
