"""Tests of classes of kernels and of traces."""

import unittest

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
from lab.pipelines import cases, configurations, profiling
from lab.pipelines.cases import opened

torch.set_num_threads(1)  # the tensors are tiny: threads would wait for each other


KERNELS = {  # as PyTorch's profiler names them on an H100 or H200
    "attention": [
        "void draft::gpu::(anonymous namespace)::attend_wgmma_kernel<(draft::gpu::Element)1, 128>(draft::gpu::WgmmaCall)",
        "void draft::gpu::(anonymous namespace)::attend_8bit_kernel<128>(draft::gpu::EightBitCall)",
        "void draft::gpu::(anonymous namespace)::quantise_kernel<(draft::gpu::Operand)0>(draft::gpu::QuantiseCall)",
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<...>::Params)",
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>(pytorch_flash::Flash_fwd_params)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0",
        "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<...>>>",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    ],
    "draft": [
        "void draft::gpu::(anonymous namespace)::pool_kernel<(draft::gpu::Element)1>(draft::gpu::Layout, uint4 const*)",
        "void draft::gpu::(anonymous namespace)::draft_probabilities_kernel(int, int, float, float const*)",
        "void draft::gpu::(anonymous namespace)::write_rows_kernel(int, int, bool, float const*)",
    ],
    "matmul": [
        "nvjet_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>",
        "void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel::GemmUniversal<...>>>",
        "aten::addmm",
    ],
    "copies": [
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}>",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda>>",
        "void at::native::vectorized_elementwise_kernel<8, at::native::bfloat16_copy_kernel_cuda(at::TensorIteratorBase&)>",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_contig<OpaqueType<2u>, unsigned int, 4, 64, 64>",
        "void at::native::vectorized_elementwise_kernel<8, at::native::FillFunctor<c10::BFloat16>, std::array<char*, 1ul>>",
        "Memcpy DtoD (Device -> Device)",
        "void draft::gpu::(anonymous namespace)::reorder_kernel<false>(draft::gpu::Layout, uint4 const*, uint4*)",
        "aten::copy_",
    ],
    "elementwise": [
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>(int, float)",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::BinaryFunctor<float, float>>>",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>>",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, float, float, float>>>",
        "aten::mul",
    ],
    "other": ["void at_cuda_detail::cub::DeviceScanKernel<...>", "a_kernel_of_nobody", "aten::view"],
}


def event(name, category, begin, length, **arguments):
    return {"ph": "X", "name": name, "cat": category, "ts": begin, "dur": length, "tid": 1, "args": arguments}


class Profiles(unittest.TestCase):
    def test_kernels_have_their_class(self):
        self.assertEqual(set(KERNELS), set(profiling.NAMES))
        for kind, names in KERNELS.items():
            for name in names:
                self.assertEqual(profiling.class_of(name), kind, name)

    def test_a_class_is_of_the_name(self):
        """The check can fail: a draft kernel of another namespace, and a copy that is called otherwise."""
        name = KERNELS["draft"][0].replace("draft::gpu", "another")
        self.assertEqual(profiling.class_of(name), "other")
        self.assertEqual(
            profiling.class_of(KERNELS["copies"][0].replace("direct_copy_kernel", "direct_add")), "elementwise"
        )

    def trace(self, label=(100, 50)):
        attend, pool = KERNELS["attention"][0], KERNELS["draft"][0]
        return {
            "traceEvents": [
                event("draft_attention", "user_annotation", *label),
                event("cudaLaunchKernel", "cuda_runtime", 90, 2, correlation=1),
                event("cudaLaunchKernel", "cuda_runtime", 110, 2, correlation=2),
                event("cuLaunchKernelEx", "cuda_driver", 120, 2, correlation=3),
                event("aten::copy_", "cpu_op", 130, 5),
                event("cudaLaunchKernel", "cuda_runtime", 131, 2, correlation=4),
                event(KERNELS["matmul"][0], "kernel", 1000, 3000, correlation=1),
                event(pool, "kernel", 4000, 100, correlation=2),
                event(attend, "kernel", 4200, 2000, correlation=3),
                event(KERNELS["copies"][0], "kernel", 6200, 400, correlation=4),
                {"ph": "M", "name": "process_name", "args": {}},
            ]
        }

    def test_a_trace_by_hand(self):
        found = profiling.read_trace(self.trace())
        wanted = dict.fromkeys(profiling.NAMES, 0.0) | {"matmul": 3.0, "draft": 0.1, "attention": 2.0, "copies": 0.4}
        self.assertEqual(found.by_class(), wanted)
        self.assertAlmostEqual(found.span_ms(), 5.6)
        self.assertEqual([each.kind for each in found.one_call()], ["draft", "attention", "copies"])
        self.assertEqual([row["class"] for row in found.slowest(2)], ["matmul", "attention"])
        elsewhere = profiling.read_trace(self.trace((80, 25))).one_call()  # kernels are of whom launched them
        self.assertEqual([each.kind for each in elsewhere], ["matmul"])

    def test_operators_count_without_those_that_they_call(self):
        trace = {
            "traceEvents": [
                event("aten::linear", "cpu_op", 0, 100),
                event("aten::addmm", "cpu_op", 10, 80),
                event("aten::copy_", "cpu_op", 20, 30),
                event("aten::mul", "cpu_op", 100, 7),
            ]
        }
        profile = profiling.read_trace(trace)
        self.assertFalse(profile.on_gpu)
        self.assertTrue(profiling.read_trace(self.trace()).on_gpu)
        found = {each.name: each.ms for each in profile.kernels}
        for name, wanted in (("linear", 0.02), ("addmm", 0.05), ("copy_", 0.03), ("mul", 0.007)):
            self.assertAlmostEqual(found[f"aten::{name}"], wanted)

    def test_a_step_of_a_model(self):
        bench = opened(cases.HUNYUAN)
        bench.profile(configurations.parse("draft_60", "torch"))
        _, metrics = bench.recorder.written[-1]
        kinds = [metrics[f"profile_{name}_ms"] for name in profiling.NAMES]
        self.assertAlmostEqual(sum(kinds), metrics["profile_kernels_ms"])
        self.assertGreater(metrics["profile_matmul_ms"], 0)
        self.assertTrue(0 < metrics["call_kernels_ms"] < metrics["profile_kernels_ms"])
