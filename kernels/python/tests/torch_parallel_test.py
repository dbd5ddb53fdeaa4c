"""Draft attention under diffusers' context parallelism (Ulysses), in processes that exchange their tokens by gloo."""

import functools
import unittest

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
if not hasattr(diffusers, "ContextParallelConfig") or not torch.distributed.is_available():
    pytest.skip("no context parallelism here", allow_module_level=True)

import parallel_cases
from draftattention._tokens import shard_order, token_order
from draftattention.diffusers import apply_draft_attention, context_parallel_plan, intercept_self_attention
from model_cases import CASES
from parallel_cases import HEADS, SPARSE, STEPS, draft, run_ranks

TWO = (
    "wan_videos",
    "hunyuan_videos",
    "odd_videos",
    "ltx_pass",
    "enabled_later",
    "wrong_orders",
    "compiled",
    "refusals",
)


THREE = ("wan_videos", "hunyuan_videos")


@functools.cache
def alone(name):
    """Of one process: (draft attention's video, the dense one, counters, tolerance). The processes compute the same sums
    of float64 in an order that may differ, by far less than 2^-30 of an output of attention; the tolerance is what that
    changes."""
    case = getattr(parallel_cases, name)()
    dense = case.run(STEPS)
    video, counts = draft(case)
    with intercept_self_attention(case.pipeline, lambda call: call.dense() * (1 + 2.0**-30)):
        tolerance = distance(case.run(STEPS), dense)
    return video, dense, counts, tolerance


def distance(video, wanted):
    return (video - wanted).abs().max().item()


class Ulysses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.two, cls.three = run_ranks(TWO, 2), run_ranks(THREE, 3)

    def same(self, video, wanted, tolerance):
        self.assertTrue(torch.isfinite(video).all())
        self.assertLessEqual(distance(video, wanted), tolerance)

    def test_a_video_is_that_of_one_process(self):
        """Given 2 and 3 processes, claim: dense and sparse steps give each of them the video of one process, with padding
        that is more than one's share of the text, too; all take the same steps."""
        for ranks, found in ((2, self.two), (3, self.three)):
            for name in ("wan", "hunyuan"):
                video, dense, counts, tolerance = alone(name)
                self.assertGreater(distance(video, dense), 1e3 * tolerance)
                for rank, mine in enumerate(found):
                    with self.subTest(name, ranks=ranks, rank=rank):
                        its = mine[f"{name}_videos"]
                        self.same(its["draft"], video, tolerance)
                        self.same(its["dense"], dense, tolerance)
                        self.assertTrue(torch.equal(its["counts"], counts))

    def test_a_process_attends_to_all_tokens_with_its_heads(self):
        for ranks, found in ((2, self.two), (3, self.three)):
            for mine in found:
                for name, text in (("wan", 0), ("hunyuan", 5)):
                    shape = [1, 120 + text, HEADS // ranks, 32, text]
                    seen = mine[f"{name}_videos"]["seen"]
                    self.assertTrue(torch.equal(seen, torch.tensor([shape] * len(seen))))
                    self.assertGreater(len(seen), 0)

    def test_dense_steps_are_diffusers_own_where_those_are_right(self):
        """Claim: Wan's dense steps are diffusers' parallel ones bit for bit; of HunyuanVideo diffusers masks other tokens
        than the padding, which shows that the order of shards matters."""
        for mine in self.two:
            self.assertTrue(torch.equal(mine["wan_videos"]["dense"], mine["wan_videos"]["own"]))
            _, dense, _, tolerance = alone("hunyuan")
            self.assertGreater(distance(mine["hunyuan_videos"]["own"], dense), 1e3 * tolerance)

    def test_a_wrong_order_is_seen(self):
        for mine in self.two:
            for key, name in (("heads", "wan"), ("shards", "hunyuan")):
                video, _, _, tolerance = alone(name)
                self.assertGreater(distance(mine["wrong_orders"][key], video), 1e3 * tolerance, key)

    def test_sizes_that_do_not_divide(self):
        """Claim: ulysses_anything gives the video of one process; without it diffusers refuses."""
        video, _, counts, tolerance = alone("odd")
        for mine in self.two:
            self.same(mine["odd_videos"]["draft"], video, tolerance)
            self.assertTrue(torch.equal(mine["odd_videos"]["counts"], counts))
            self.assertRegex(mine["odd_videos"]["refused"], "AssertionError: .* must be divisible by mesh size")

    def test_a_model_that_is_split_before_it_begins(self):
        case = parallel_cases.ltx_video()
        model = case.transformer()
        dense = case.one_pass(model)
        with apply_draft_attention(model, dense_steps=0, steps=1, **SPARSE):
            wanted = case.one_pass(model)
        with intercept_self_attention(model, lambda call: call.dense() * (1 + 2.0**-30), steps=1):
            tolerance = distance(case.one_pass(model), dense)
        self.assertGreater(distance(wanted, dense), 1e3 * tolerance)
        for mine in self.two:
            self.same(mine["ltx_pass"]["draft"], wanted, tolerance)

    def test_parallelism_may_be_enabled_later(self):
        for mine in self.two:
            video, _, _, tolerance = alone("hunyuan")
            self.same(mine["enabled_later"]["draft"], video, tolerance)

    def test_compiled_blocks(self):
        video, _, counts, tolerance = alone("wan")
        for mine in self.two:
            self.same(mine["compiled"]["draft"], video, tolerance)
            self.assertTrue(torch.equal(mine["compiled"]["counts"], counts))

    def test_refusals(self):
        wanted = {
            "ring": "ring_degree: wanted 1 .*a draft mask is of all.*, found 2",
            "heads": "heads: wanted a number that ulysses_degree, 2, divides .*, found 3",
            "layers": "layers: wanted all 4 of a model with padding under context parallelism .*, found 1",
            "gradients": "query, key, value: wanted no gradients",
            "share of a mask": r"attn_mask: wanted bool \[1, 1, 1, 132\].*, found torch.bool \[1, 1, 1, 66\]",
            "not split": "layer 0: wanted shares of 2 x 6 x 10 = 120 tokens, .* over 2 processes, .*, found 120 tokens of 240",
        }
        for mine in self.two:
            self.assertEqual(mine["refusals"].keys(), wanted.keys())
            for name, message in wanted.items():
                self.assertRegex(mine["refusals"][name], f"^ValueError: {message}")
                self.assertNotIn("\n", mine["refusals"][name])


class Orders(unittest.TestCase):
    def test_shards_come_back_in_the_models_order(self):
        """Given sequences that are split by torch.tensor_split, each by itself, claim: gather() gives their tokens one
        sequence behind another, and scatter() is its inverse."""
        for spans, lengths in (
            (((2, 3, 4),), (24,)),
            (((2, 3, 4), ...), (24, 7)),
            ((..., (2, 3, 4)), (8, 24)),
            ((5, (1, 2, 2), (2, 2, 2), ...), (17, 6)),
            (((1, 2, 2), ..., 3), (4, 5, 3)),
        ):
            total = sum(lengths)
            tokens = torch.arange(total)
            for shards in (1, 2, 3):
                pieces = [piece.tensor_split(shards) for piece in tokens.split(lengths)]
                exchanged = torch.cat([piece[shard] for shard in range(shards) for piece in pieces])
                order = shard_order(spans, total, shards)
                self.assertTrue(torch.equal(order.gather(exchanged, 0), tokens))
                self.assertTrue(torch.equal(order.scatter(tokens, 0), exchanged))
                self.assertEqual(order.gather(exchanged, 0) is exchanged, torch.equal(exchanged, tokens))
        for spans, total in ((((2, 3, 4),), 25), (((2, 3, 4), ...), 23)):
            self.assertIsNone(shard_order(spans, total, 2))
            self.assertIsNone(token_order(spans, total))


class Plans(unittest.TestCase):
    def test_are_diffusers_own_or_ours(self):
        wan, hunyuan = parallel_cases.wan().transformer, parallel_cases.hunyuan().transformer
        self.assertIs(context_parallel_plan(wan), wan._cp_plan)
        self.assertEqual([*context_parallel_plan(hunyuan)], ["rope", "transformer_blocks.0", "proj_out"])
        hunyuan.register_to_config(image_condition_type="token_replace")
        with self.assertRaisesRegex(ValueError, "image_condition_type: wanted none .*, found token_replace"):
            context_parallel_plan(hunyuan)
        with self.assertRaisesRegex(ValueError, "transformer: wanted one .* plan .*, found CogVideoX"):
            context_parallel_plan(CASES["cogvideox"]().transformer())


if __name__ == "__main__":
    unittest.main()
