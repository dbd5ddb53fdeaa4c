"""Tests of the contenders against explicit attention, with stand-ins for packages that are not here."""

import contextlib
import dataclasses
import shutil
import sys
import types
import unittest
from unittest import mock

import pytest

torch = pytest.importorskip("torch")
from lab.peers import comparison, contenders, stand_in
from lab.peers.contenders import PEERS, Case, Prepared, Unsupported, cudnn_frontend, magi_attention
from lab.peers.inputs import BLOCK
from lab.peers.masks_test import DIM, HEADS, in_region_order, relative, rounding, small_call, small_mask, wanted_output


def peer_of(name):
    (peer,) = (peer for peer in PEERS if peer.name == name)
    return peer


def result_of(name, call, case=None):
    """The first output of a contender, from a call in token order."""
    prepared = peer_of(name).prepare(in_region_order(call), case or Case())
    prepared = prepared if isinstance(prepared, Prepared) else Prepared(prepared)
    with torch.no_grad():
        return prepared.output(prepared.run())


def module(**names):
    return types.SimpleNamespace(**names)


def listed(counts, columns):
    """[1, heads, rows] and [1, heads, rows, any] -> [heads, rows, rows], bool: each row's first `counts` columns."""
    _, heads, rows, _ = columns.shape
    mask = torch.zeros((heads, rows, rows), dtype=torch.bool)
    for head in range(heads):
        for row in range(rows):
            mask[head, row, columns[0, head, row, : counts[0, head, row]].long()] = True
    return mask


def blocks(q, k, v, mask, rows=BLOCK, columns=BLOCK, keys=None):
    """Explicit attention on [heads, tokens, head_dim] under blocks of rows x columns tokens, over the first `keys`."""
    full = mask.repeat_interleave(rows, 1).repeat_interleave(columns, 2)[:, : q.shape[1], : k.shape[1]]
    assert full.shape[1:] == (q.shape[1], k.shape[1])
    if keys is not None:
        full = full & (torch.arange(k.shape[1]) < keys)
    return stand_in.explicit_attention(q, k, v, full).to(q.dtype)


def unwritten_where_empty(out, mask, rows=BLOCK):
    """[heads, tokens, head_dim] with NaN in the block rows that keep nothing, as memory that no kernel wrote may have."""
    empty = ~mask.any(-1).repeat_interleave(rows, 1)[:, : out.shape[1], None]
    return out.masked_fill(empty, torch.nan)


def dense(q, k, v):
    return blocks(q, k, v, torch.ones((q.shape[0], -(-q.shape[1] // BLOCK), -(-k.shape[1] // BLOCK)), dtype=torch.bool))


class Outputs(unittest.TestCase):
    """Given the small call and a mask with an empty row, claim: a peer computes explicit attention under that mask,
    within what float32 explains; and not under the mask with one block less."""

    def check(self, name, modules=None, text=16, sparse=True):
        call = small_call(text=text)
        mask = small_mask(call)
        less = mask.clone()
        less[1, 0, int(mask[1, 0].nonzero()[0])] = False
        cases = [(Case(), torch.ones_like(mask))] + ([(Case(0.5, "softmax", "avg", mask), mask)] if sparse else [])
        self.assertEqual(peer_of(name).sparse, sparse)
        with mock.patch.dict(sys.modules, modules or {}):
            for case, its_mask in cases:
                found = result_of(name, call, case)
                self.assertEqual(found.shape, call.q.shape)
                self.assertLessEqual(relative(found, wanted_output(call, its_mask)), rounding(call))
                self.assertGreater(relative(found, wanted_output(call, less)), rounding(call))

    def refused(self, name, modules, words, **given):
        call = small_call(**given)
        with mock.patch.dict(sys.modules, modules), self.assertRaisesRegex(Unsupported, words):
            result_of(name, call, Case(0.5, "softmax", "avg", small_mask(call)))

    @unittest.skipIf(shutil.which("g++") is None, "PyTorch compiles FlexAttention for the CPU with g++, not found")
    def test_compiled_flex_attention(self):
        self.check("flex_attention")

    def test_flex_attention_by_flash(self):
        def function(q, k, v, block_mask, kernel_options):
            self.assertEqual(kernel_options, {"BACKEND": "FLASH"})
            self.assertTrue(block_mask.mask_mod(0, 0, 1, torch.tensor(0)))
            return blocks(q[0], k[0], v[0], block_mask.to_dense()[0].bool())[None]

        with mock.patch.object(contenders.in_pytorch, "compiled_flex", lambda: function):
            self.check("flex_attention_flash")

    def test_flash_attention_4(self):
        def function(q, k, v, block_sparse_tensors=None):
            q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))
            if block_sparse_tensors is None:
                return dense(q, k, v).transpose(0, 1)[None]
            its = block_sparse_tensors
            self.assertEqual((its.block_size, int(its.mask_block_cnt.sum())), ((128, 128), 0))
            self.assertEqual(its.mask_block_idx.shape, its.full_block_idx.shape)
            return blocks(q, k, v, listed(its.full_block_cnt, its.full_block_idx)).transpose(0, 1)[None], None

        parts = {
            "flash_attn.cute": module(flash_attn_func=function),
            "flash_attn.cute.block_sparsity": module(BlockSparseTensorsTorch=types.SimpleNamespace),
        }
        self.check("flash_attention_4", parts)

    def test_block_sparse_attention_in_the_released_packages_parts(self):
        def forward(q, k, v, ends, _, m, n, kinds, streaming, rows, longest, longest_k, dropout, scale, *rest):
            self.assertEqual((m, n, dropout, scale, rest), (128, 128, 0.0, DIM**-0.5, (False, False, False, -1, -1)))
            return run_blocks(q, k, v, ends, kinds, streaming, rows), None

        parts = module(
            _wrapped_block_sparse_attn_forward=forward,
            convert_blockmask_row_reverse=falling,
            replace_ones_with_count=lambda kinds: (kinds.cumsum(0), kinds.sum()),
        )
        name = "block_sparse_attn"
        self.check("block_sparse_attention", {name: module(), f"{name}.block_sparse_attn_interface": parts})

    def test_block_sparse_attention_prepared(self):
        package = module(
            prepare_masks=lambda kinds, mask: (kinds.cumsum(0), falling(mask)),
            fwd_prepared=lambda q, k, v, ends, _, kinds, streaming, rows, longest, longest_k: (
                run_blocks(q, k, v, ends, kinds, streaming, rows),
                None,
            ),
        )
        self.check("block_sparse_attention", {"block_sparse_attn": package})

    def test_block_sparse_attention_by_its_public_function_alone(self):
        def function(q, k, v, ends, _, kinds, streaming, mask, longest, longest_k, dropout):
            return run_blocks(q, k, v, ends, kinds.cumsum(0), streaming, falling(mask))

        self.check("block_sparse_attention", {"block_sparse_attn": module(block_sparse_attn_func=function)})

    def test_cudnn_block_sparse(self):
        def function(q, k, v, columns, **options):
            counts = options.pop("q2k_block_nums")
            wanted = {"sparse_block_size": 128, "allow_empty_block_nums": True, "softmax_scale": DIM**-0.5}
            self.assertEqual(options, wanted)
            return {"o_tensor": blocks(q[0], k[0], v[0], listed(counts, columns))[None]}

        self.check("cudnn_block_sparse", {"cudnn": module(BSA=module(block_sparse_attention_forward=function))})

    def test_cudnn_block_sparse_fp8_wants_equal_rows(self):
        def function(q, k, v, columns, block_sparse_num, softmax_scale, sparse_block_size):
            self.assertEqual((softmax_scale, sparse_block_size), (DIM**-0.5, 128))
            self.assertTrue(columns.is_contiguous())
            return {
                "o_tensor": blocks(q[0], k[0], v[0], listed(torch.full(columns.shape[:3], block_sparse_num), columns))[
                    None
                ]
            }

        package = {"cudnn": module(BSA=module(block_sparse_attention_fp8_forward=function))}
        call = small_call(text=0)
        mask = (
            torch.eye(call.regions, dtype=torch.bool).roll(1, 0).expand(HEADS, -1, -1) | torch.eye(call.regions).bool()
        )
        for case in (Case(), Case(0.75, "row", "avg", mask)):
            with mock.patch.dict(sys.modules, package):
                found = result_of("cudnn_block_sparse_fp8", call, case)
            wanted = wanted_output(call, torch.ones_like(mask) if case.mask is None else mask)
            self.assertLessEqual(relative(found, wanted), rounding(call))
        self.refused("cudnn_block_sparse_fp8", package, "wants equally many blocks in every row, found 0 to", text=0)
        with mock.patch.dict(sys.modules, package), self.assertRaisesRegex(Unsupported, "128 divides, found 1040"):
            result_of("cudnn_block_sparse_fp8", small_call())

    def test_cudnn_fp8_is_near_and_counts_what_it_says(self):
        call = small_call(dtype=torch.bfloat16)
        wanted = wanted_output(call, torch.ones((HEADS, call.regions, call.regions), dtype=torch.bool))
        for name in ("cudnn_fp8", "cudnn_fp8_and_quantising"):
            with mock.patch.dict(sys.modules, {"cudnn": Cudnn()}), quantisings() as count:
                prepared = peer_of(name).prepare(in_region_order(call), Case())
                before = len(count)
                result = prepared.run()
                self.assertEqual(len(count) - before, 3 if peer_of(name).quantising == "timed" else 0)
                found = prepared.output(result)
            self.assertEqual((found.shape, found.dtype), (call.q.shape, torch.bfloat16))
            self.assertEqual(prepared.notes, {"cudnn": "9.99"})
            error = relative(found, wanted)
            self.assertTrue(0.01 < error < comparison.LARGEST_DISAGREEMENT_OF_8_BITS, error)

    def test_quantised_has_one_scale_and_every_element_within_a_roundoff(self):
        x = torch.randn(1, 2, 300, 32, generator=torch.Generator().manual_seed(1)).bfloat16() * 3
        narrow, scale = cudnn_frontend.quantised(x)
        self.assertEqual((narrow.dtype, scale.shape), (torch.float8_e4m3fn, (1, 1, 1, 1)))
        back = narrow.float() * scale
        large = x.abs() > x.abs().max() * 2**-6 / 448 * 2
        self.assertLess(((back - x) / x)[large].abs().max(), 2**-4 + 2**-7)
        self.assertEqual(cudnn_frontend.quantised(torch.zeros_like(x))[0].float().abs().max(), 0)

    def test_fastvideo_pads_and_halves(self):
        def function(q, k, v, columns, counts, sizes):
            n = int(sizes.sum())
            self.assertEqual((q.shape[2] % 64, sizes[:-1].unique().tolist()), (0, [64]))
            return blocks(q[0], k[0], v[0], listed(counts, columns), 64, 64, n)[None], None

        name = "fastvideo_kernel"
        package = module(block_sparse_attn_from_indices=function)
        for operators, which in ((None, "its Triton kernel"), (module(block_sparse_fwd=None), "its CUDA kernel")):
            parts = {name: package, f"{name}._C": module(), f"{name}._C.fastvideo_kernel_ops": operators}
            for text in (16, 65, 128):
                self.check("fastvideo", parts, text)
            with mock.patch.dict(sys.modules, parts):
                notes = peer_of("fastvideo").prepare(small_call(), Case()).notes
            self.assertTrue(notes["which"].startswith(which))

    def test_sage_attention_of_either_version(self):
        def function(q, k, v, tensor_layout, is_causal):
            self.assertEqual((tensor_layout, is_causal), ("HND", False))
            k -= k.mean(2, keepdim=True)  # as version 1 does
            return dense(q[0], k[0], v[0])[None]

        first = {"sageattention": module(sageattn=function)}
        call = small_call()
        before = call.k.clone()
        with mock.patch.dict(sys.modules, first):
            peer_of("sage_attention_1").prepare(call, Case())()
        self.assertTrue(torch.equal(call.k, before))
        self.check("sage_attention_1", first, sparse=False)
        second = {"sageattention": module(sageattn=function, sageattn_qk_int8_pv_fp8_cuda_sm90=function)}
        self.check("sage_attention_2", second, sparse=False)
        with mock.patch.dict(sys.modules, second), self.assertRaisesRegex(Unsupported, "wanted sageattention 1"):
            result_of("sage_attention_1", call)

    def test_sparge_attention_has_blocks_of_its_own(self):
        for capability, rows, columns in (((9, 0), 64, 128), ((8, 9), 128, 64)):

            def function(q, k, v, mask_id, tensor_layout):
                n = q.shape[2]
                self.assertEqual(mask_id.shape, (1, HEADS, -(-n // rows), -(-n // columns)))
                self.assertTrue(mask_id.is_contiguous())
                return unwritten_where_empty(blocks(q[0], k[0], v[0], mask_id[0], rows, columns), mask_id[0], rows)[
                    None
                ]

            with mock.patch.object(torch.cuda, "get_device_capability", lambda device: capability):
                for text in (16, 0):
                    package = module(block_sparse_sage2_attn_cuda=function)
                    self.check("sparge_attention", {"spas_sage_attn": package}, text)

    def test_flex_block_attention(self):
        def function(q, k, v, rows, columns, mask):
            self.assertEqual((rows, columns), (128, 128))
            return unwritten_where_empty(blocks(q[0], k[0], v[0], mask[0]), mask[0])[None]

        package = {"flex_block_attn": module(flex_block_attn_func=function)}
        for text in (128, 0):
            self.check("flex_block_attention", package, text)
        self.refused("flex_block_attention", package, "wanted tokens that 128 divides, found 1040")

    def test_magi_attention(self):
        def function(q, k, v, q_ranges, k_ranges, attn_type_map, **options):
            self.assertEqual((q.shape[1], int(attn_type_map.sum()), len(q_ranges)), (1, 0, len(k_ranges)))
            self.assertTrue(options["auto_range_merge"])
            self.assertLessEqual(int((q_ranges[:, 1] - q_ranges[:, 0]).max()), options["max_seqlen_q"])
            full = torch.zeros((len(q), len(k)), dtype=torch.bool)
            for (top, bottom), (left, right) in zip(q_ranges.tolist(), k_ranges.tolist()):
                full[top:bottom, left:right] = True
            out = stand_in.explicit_attention(*(x.transpose(0, 1) for x in (q, k, v)), full[None])
            return unwritten_where_empty(out.to(q.dtype), full[None], 1).transpose(0, 1), None

        for text in (16, 0):
            self.check("magi_attention", {"magi_attention.functional": module(flex_flash_attn_func=function)}, text)

    def test_rows_that_keep_nothing_are_0_and_said_to_be(self):
        def function(q, k, v, rows, columns, mask):
            return unwritten_where_empty(blocks(q[0], k[0], v[0], mask[0]), mask[0])[None]

        call = small_call(text=0)
        mask = small_mask(call)
        empty = torch.nonzero(~mask.any(-1)).tolist()
        with mock.patch.dict(sys.modules, {"flex_block_attn": module(flex_block_attn_func=function)}):
            for case, expected in ((Case(0.5, "softmax", "avg", mask), empty), (Case(), [])):
                prepared = peer_of("flex_block_attention").prepare(call, case)
                result = prepared.run()
                found = prepared.output(result)
                self.assertEqual("empty_rows" in prepared.notes, bool(expected))
                self.assertEqual(bool(result.isnan().any()), bool(expected))
                for head, row in expected:
                    there = slice(row * BLOCK, (row + 1) * BLOCK)
                    self.assertTrue(result[head, there].isnan().all())
                    self.assertEqual(found[head, there].abs().max(), 0)
                written = ~result.isnan()
                self.assertTrue(torch.equal(found[written], result[written]))
        self.assertIn([0, 1], empty)

    def test_ranges_are_a_rows_runs(self):
        mask = torch.tensor([[[1, 1, 0], [0, 0, 0], [1, 0, 1]]], dtype=torch.bool).repeat(2, 1, 1)
        queries, keys = magi_attention.ranges_of(mask, 300)
        one = [[0, 128], [256, 300], [256, 300]], [[0, 256], [0, 128], [256, 300]]
        for found, wanted in zip((queries, keys), one):
            self.assertEqual(found.tolist(), wanted + [[low + 300, high + 300] for low, high in wanted])
            self.assertEqual(found.dtype, torch.int32)


class Table(unittest.TestCase):
    def test_every_peer_says_where_it_comes_from(self):
        for peer in PEERS:
            self.assertTrue(peer.package and peer.install and peer.note, peer.name)
            self.assertIn(peer.order, ("token", "region"))
            self.assertEqual(bool(peer.operands), bool(peer.quantising), peer.name)
            self.assertIn(peer.quantising, ("", contenders.TIMED, contenders.UNTIMED))
            self.assertEqual("reordering" in peer.note, peer.order == "region", peer.name)

    def test_a_version_is_the_installed_ones(self):
        peer = peer_of("flash_attention_4")  # whose module says 0.0.0
        with mock.patch.dict(sys.modules, {"flash_attn.cute": module(__version__="0.0.0")}):
            self.assertEqual(peer.version(), "0.0.0")
            with mock.patch("importlib.metadata.version", lambda name: {"flash-attn-4": "4.0.0b36"}[name]):
                self.assertEqual(peer.version(), "4.0.0b36")
        self.assertEqual(dataclasses.replace(peer, module="none.such").version(), "")
        self.assertTrue(torch.__version__.startswith(peer_of("cudnn").version()))


@contextlib.contextmanager
def quantisings():
    """A list that grows by one with each tensor that is quantised."""
    count, real = [], cudnn_frontend.quantised
    with mock.patch.object(cudnn_frontend, "quantised", lambda x: (count.append(1), real(x))[1]):
        yield count


class Cudnn:
    """Stands where the module cudnn does: sdpa_fp8 in float64, rounded to E4M3 where cuDNN rounds."""

    data_type = module(FP8_E4M3=torch.float8_e4m3fn, FLOAT=torch.float32)
    heur_mode = module(A=0, FALLBACK=1)

    def create_handle(self):
        return self

    def set_stream(self, handle, stream):
        assert handle is self

    def backend_version_string(self):
        return "9.99"

    def pygraph(self, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert io_data_type == torch.float8_e4m3fn and handle is self
        return Graph()


class Node:
    """A tensor of a graph: set_x(value) keeps x."""

    def __init__(self, **given):
        self.__dict__.update(given)

    def __getattr__(self, name):
        assert name.startswith("set_"), name

        def keep(value):
            setattr(self, name[4:], value)
            return self

        return keep


class Graph:
    def tensor(self, name, dim, stride, data_type):
        return Node(name=name, dim=dim, stride=stride, data_type=data_type)

    def sdpa_fp8(self, generate_stats, attn_scale, **nodes):
        assert not generate_stats and attn_scale == DIM**-0.5
        self.nodes = nodes | {name: Node() for name in ("o", "amax_s", "amax_o")}
        return self.nodes["o"], None, self.nodes["amax_s"], self.nodes["amax_o"]

    def nothing(self, *_):
        pass

    validate = build_operation_graph = create_execution_plans = check_support = build_plans = nothing

    def get_workspace_size(self):
        return 0

    def execute(self, given, workspace, handle):
        its = {name: given[node] for name, node in self.nodes.items()}
        for name in "qkvo":
            assert tuple(self.nodes[name].dim) == its[name].shape and its[name].dtype == torch.float8_e4m3fn
        q, k, v = (its[name].double() * its[f"descale_{name}"] for name in "qkv")
        logits = q @ k.mT * DIM**-0.5
        p = (logits - logits.amax(-1, keepdim=True)).exp()
        narrow = (p * its["scale_s"]).to(torch.float8_e4m3fn).double() * its["descale_s"]
        o = narrow @ v / p.sum(-1, keepdim=True)
        its["amax_o"].fill_(o.abs().max())
        its["o"].copy_((o * its["scale_o"]).clamp(-448, 448).to(torch.float8_e4m3fn))


def falling(mask):
    """Block Sparse Attention's form of a mask: each row's kept columns, falling, then -1."""
    columns = torch.arange(mask.shape[-1]).expand(mask.shape)
    return torch.where(mask, columns, -1).sort(-1, descending=True).values.int()


def run_blocks(q, k, v, ends, kinds, streaming, rows):
    """Explicit attention on [tokens, heads, head_dim] under falling(mask) of a whole batch of one sequence."""
    tokens, heads, _ = q.shape
    assert ends.tolist() == [0, tokens] and kinds.tolist() == list(range(1, heads + 1)) and len(streaming) == 2 * heads
    mask = torch.zeros((heads, rows.shape[2], rows.shape[3]), dtype=torch.bool)
    for head in range(heads):
        for row in range(rows.shape[2]):
            mask[head, row, [column for column in rows[0, head, row].tolist() if column >= 0]] = True
    full = mask.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, :tokens, :tokens]
    return stand_in.explicit_attention(*(x.transpose(0, 1) for x in (q, k, v)), full).to(q.dtype).transpose(0, 1)
