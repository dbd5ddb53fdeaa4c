"""NVIDIA's cudnn-frontend: its block-sparse kernels, of bfloat16 and of FP8, and cuDNN's own FP8 attention, dense."""

import importlib

import torch

from ..inputs import BLOCK
from ..masks import kept_columns
from .contender import (
    NO_REORDERING,
    TIMED,
    UNTIMED,
    Contender,
    Prepared,
    Unsupported,
    batch_of_one,
    require_whole_slices,
    slices_of,
)

PACKAGE = "nvidia-cudnn-frontend"
INSTALL = f"pip install {PACKAGE}==1.32.0"
E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max  # 448
# Of probabilities, at most 1 before they are rounded to FP8: as cudnn-frontend's own tests have it. It leaves room for
# a row's maximum that is not yet up to date.
PROBABILITY_SCALE = 64.0


def _block_sparse(call, case):
    function = importlib.import_module("cudnn").BSA.block_sparse_attention_forward
    counts, columns = kept_columns(slices_of(call, case)[None])
    q, k, v = batch_of_one(call)
    return lambda: function(
        q,
        k,
        v,
        columns,
        q2k_block_nums=counts,
        sparse_block_size=BLOCK,
        allow_empty_block_nums=True,
        softmax_scale=call.head_dim**-0.5,
    )["o_tensor"][0]


def _block_sparse_fp8(call, case):
    mask = slices_of(call, case)
    lengths = mask.sum(-1)
    least, most = int(lengths.min()), int(lengths.max())
    if least != most:
        raise Unsupported(f"wants equally many blocks in every row, found {least} to {most}")
    require_whole_slices(call)
    function = importlib.import_module("cudnn").BSA.block_sparse_attention_fp8_forward
    columns = kept_columns(mask[None])[1][..., :most].contiguous()
    q, k, v = batch_of_one(call)
    return lambda: function(
        q, k, v, columns, block_sparse_num=most, softmax_scale=call.head_dim**-0.5, sparse_block_size=BLOCK
    )["o_tensor"][0]


def quantised(x):
    """(x in E4M3, what it is multiplied by to have x again): one scale a tensor, from its largest element."""
    low, high = torch.aminmax(x)
    factor = (LARGEST / torch.maximum(-low, high).float().clamp(min=1e-12)).to(x.dtype)
    return (x * factor).to(E4M3), factor.float().reciprocal().reshape(1, 1, 1, 1)


class DenseFp8:
    """cuDNN's graph of one operation, sdpa_fp8, for tensors [1, heads, tokens, head_dim] in E4M3."""

    SCALES = ("descale_q", "descale_k", "descale_v", "descale_s", "scale_s", "scale_o")

    def __init__(self, call):
        self.cudnn = cudnn = importlib.import_module("cudnn")
        device, size = call.q.device, (1, call.heads, call.tokens, call.head_dim)
        strides = (size[1] * size[2] * size[3], size[2] * size[3], size[3], 1)
        number, kinds = (1, 1, 1, 1), cudnn.data_type
        self.handle = cudnn.create_handle()
        self.graph = cudnn.pygraph(
            io_data_type=kinds.FP8_E4M3,
            intermediate_data_type=kinds.FLOAT,
            compute_data_type=kinds.FLOAT,
            handle=self.handle,
        )

        def tensor(name, dim, stride, kind):
            return self.graph.tensor(name=name, dim=list(dim), stride=list(stride), data_type=kind)

        self.inputs = {name: tensor(name, size, strides, kinds.FP8_E4M3) for name in "qkv"}
        self.scales = {name: tensor(name, number, number, kinds.FLOAT) for name in self.SCALES}
        o, _, amax_s, amax_o = self.graph.sdpa_fp8(
            **self.inputs, **self.scales, generate_stats=False, attn_scale=call.head_dim**-0.5
        )
        self.outputs = {"o": o, "amax_s": amax_s, "amax_o": amax_o}
        for name, each in self.outputs.items():
            dim, stride, kind = (size, strides, kinds.FP8_E4M3) if name == "o" else (number, number, kinds.FLOAT)
            each.set_output(True).set_dim(list(dim)).set_stride(list(stride)).set_data_type(kind)
        self.graph.validate()
        self.graph.build_operation_graph()
        self.graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        self.graph.check_support()
        self.graph.build_plans()
        self.workspace = torch.empty(max(1, self.graph.get_workspace_size()), dtype=torch.uint8, device=device)
        one = torch.ones(number, dtype=torch.float32, device=device)
        self.one = {"descale_s": one / PROBABILITY_SCALE, "scale_s": one * PROBABILITY_SCALE, "scale_o": one.clone()}
        self.made = {
            "o": torch.empty(size, dtype=E4M3, device=device),
            "amax_s": torch.zeros_like(one),
            "amax_o": torch.zeros_like(one),
        }

    def __call__(self, q, k, v):
        """The output in E4M3, times scale_o. Each of q, k, v: what quantised() returns."""
        values = {"q": q[0], "k": k[0], "v": v[0], "descale_q": q[1], "descale_k": k[1], "descale_v": v[1]} | self.one
        known = self.inputs | self.scales | self.outputs
        stream = torch.cuda.current_stream().cuda_stream if torch.cuda.is_available() else 0
        self.cudnn.set_stream(self.handle, stream)
        self.graph.execute(
            {known[name]: each for name, each in (values | self.made).items()}, self.workspace, handle=self.handle
        )
        return self.made["o"]

    def calibrate(self, q, k, v):
        """Sets the output's scale from a first run, as delayed scaling does."""
        self(q, k, v)
        self.one["scale_o"] = LARGEST / 2 / self.made["amax_o"].clamp(min=1e-12)

    def output(self, o, element):
        """[heads, tokens, head_dim] of `element`."""
        return (o.float() / self.one["scale_o"]).to(element)[0]


def _dense_fp8(quantise_each_time):
    def prepare(call, case):
        dense = DenseFp8(call)
        tensors, element = batch_of_one(call), call.q.dtype
        narrow = [quantised(x) for x in tensors]
        dense.calibrate(*narrow)
        notes = {"cudnn": str(dense.cudnn.backend_version_string())}
        if quantise_each_time:
            factor = 1 / dense.one["scale_o"].to(element)
            return Prepared(lambda: dense(*(quantised(x) for x in tensors)).to(element).mul_(factor)[0], notes=notes)
        return Prepared(lambda: dense(*narrow), lambda o: dense.output(o, element), notes)

    return prepare


FP8_DENSE = "cuDNN's graph sdpa_fp8, E4M3 in and out, one scale a tensor, the output's from a first run"
PEERS = (
    Contender(
        "cudnn_block_sparse",
        "region",
        True,
        _block_sparse,
        f"block_sparse_attention_forward, lists prepared before; {NO_REORDERING}",
        PACKAGE,
        "cudnn",
        INSTALL,
    ),
    Contender(
        "cudnn_block_sparse_fp8",
        "region",
        True,
        _block_sparse_fp8,
        f"block_sparse_attention_fp8_forward, which quantises in each call, lists prepared before; {NO_REORDERING}",
        PACKAGE,
        "cudnn",
        INSTALL,
        "fp8",
        TIMED,
    ),
    Contender(
        "cudnn_fp8",
        "token",
        False,
        _dense_fp8(False),
        f"{FP8_DENSE}; the kernel alone: quantised before, the output left in E4M3",
        PACKAGE,
        "cudnn",
        INSTALL,
        "fp8",
        UNTIMED,
    ),
    Contender(
        "cudnn_fp8_and_quantising",
        "token",
        False,
        _dense_fp8(True),
        f"{FP8_DENSE}; with quantising Q, K, V and turning the output into bfloat16, by PyTorch's operations",
        PACKAGE,
        "cudnn",
        INSTALL,
        "fp8",
        TIMED,
    ),
)
