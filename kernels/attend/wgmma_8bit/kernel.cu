// Idea:     O = softmax(scale Q K^T) V over the kept blocks of each block row (eq. 5) with 8-bit operands: Q K^T of
// INT8
//           numbers, exact; P V of E4M3 numbers. Quantising is part of the call (quantise.cu).
// Map:      as attend_wgmma's (wgmma/kernel.cu): persistent CTAs, a load warp, a scheduler's warp and two consumer
//           warpgroups that take turns on the tensor cores. A block of K or V is one plain copy. The tensor cores sum P
//           too: V has eight columns of ones behind it.
// Needs:    sm_90a; head_dim 128; bf16 or fp16; q, k, v, o of any strides (strided.hpp); regions of at most 128 tokens,
//           in either order; lists as write_lists makes them, or none for dense; pooled rows for a remainder, or none.
// Costs:    4 * 128 * 128 * 128 operations for each kept block, at twice the rate of bf16. Scratch: 3 bytes a token and
//           channel.
// Numerics: operands.hpp; S exact in 32-bit integers; P in E4M3, straight from the logits (softmax.cuh), with weights
//           from 2^-15 of the row's largest up; sums of P V for 8 blocks in the tensor cores, which keep 13 fraction
//           bits, beyond that in fp32. A row without a key has output 0 and lse = -inf. Same input, same bits.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/attend/wgmma/tile_scheduler.cuh"
#include "kernels/attend/wgmma_8bit/epilogue.cuh"
#include "kernels/attend/wgmma_8bit/kernel.hpp"
#include "kernels/attend/wgmma_8bit/mainloop_load.cuh"
#include "kernels/attend/wgmma_8bit/mainloop_mma.cuh"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/logarithms.hpp"

namespace draft::gpu {
namespace {

template <Element kElement, bool kRemainder>
__global__ void __launch_bounds__(kCtaThreads, 1) attend_8bit_kernel(const __grid_constant__ EightBitCall call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Sizes = EightBitSizes;
  extern __shared__ __align__(1024) unsigned char memory[];  // two tiles of Q, the ring of K and V tiles, O in fp32
  __shared__ EightBitState state;
  const std::uint32_t q_tiles = shared_address(memory);
  if (q_tiles % 1024 != 0) __trap();  // the swizzle is a function of address bits, so tiles must be aligned to it
  unsigned char* const ring = memory + 2 * Sizes::kStageBytes;
  for (int i = static_cast<int>(threadIdx.x); i < Sizes::kStages * Sizes::kOnesBytes / 16; i += kCtaThreads) {
    constexpr int kChunks = Sizes::kOnesBytes / 16;
    constexpr std::uint32_t kOnes = 0x38383838U;  // E4M3: 1.0
    unsigned char* const to = ring + i / kChunks * Sizes::kStageBytes + kOperandBytes + i % kChunks * 16;
    *reinterpret_cast<uint4*>(to) = make_uint4(kOnes, kOnes, kOnes, kOnes);
  }
  publish_to_copy_engine();
  if (threadIdx.x == 0) {
    state.init();
    barrier_init_done();
  }
  __syncthreads();

  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp < 4) {
    give_registers<kProducerRegisters>();
    if (warp == 0) load_8bit<kRemainder>(call, state, q_tiles, lane);
    if (warp == 1) schedule_tiles<false>(call, state, lane);
  } else {
    take_registers<kConsumerRegisters>();
    const std::uint32_t aside = q_tiles + (2 + Sizes::kStages) * Sizes::kStageBytes + (warp - 4) * Sizes::kWarpSumBytes;
    const std::uint32_t zero = call.blocks < 0 ? 1 : 0;
    EightBitConsumer<kElement, kRemainder>{call, state, q_tiles, aside, {warp / 4 - 1}, warp % 4, zero, {}}.consume();
  }
#else
  __trap();  // never reached: attend_8bit() refuses other GPUs
#endif
}

template <Element kElement, bool kRemainder>
void launch(const EightBitCall& call, cudaStream_t stream) {
  const auto kernel = attend_8bit_kernel<kElement, kRemainder>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, EightBitSizes::kSharedBytes),
        "cudaFuncSetAttribute");
  kernel<<<std::min(multiprocessors(), call.work_tiles), kCtaThreads, EightBitSizes::kSharedBytes, stream>>>(call);
  check_launch("attend_8bit_kernel");
}

template <Element kElement>
void launch_for_remainder(const EightBitCall& call, cudaStream_t stream) {
  call.pooled_tiles > 0 ? launch<kElement, true>(call, stream) : launch<kElement, false>(call, stream);
}

/// Scratch: the operands, the remainder's part, the counter.
std::size_t counter_offset(const Attention& call) { return eight_bit_bytes(call) + dropped_blocks_workspace(call); }

void require_supported(const Attention& call, const void* workspace) {
  require_valid(call);
  require_aligned("attend_8bit: workspace", workspace, 128);
  if (const std::string reason = attend_8bit_unsupported(call, device_capability()); !reason.empty()) {
    throw std::invalid_argument("attend_8bit: " + reason);
  }
}

}  // namespace

std::string attend_8bit_unsupported(const Attention& call, int capability) {
  const Layout& layout = call.layout;
  if (std::string reason = why_not_sm90a(capability); !reason.empty()) return reason;
  if (layout.head_dim != kTileSide) return "head_dim must be 128, found " + std::to_string(layout.head_dim);
  if (layout.region_tokens() > kTileRows) {
    return "regions may have 128 tokens at most, found " + std::to_string(layout.region_height) + " x " +
           std::to_string(layout.region_width);
  }
  return "";
}

std::size_t attend_8bit_workspace(const Attention& call) { return counter_offset(call) + sizeof(int); }

void quantise_for_8bit(const Attention& call, void* workspace, cudaStream_t stream, const RegionMeans& means) {
  require_supported(call, workspace);
  quantise(call, place_operands(call, workspace), means, stream);
}

void attend_8bit(const Attention& call, void* workspace, cudaStream_t stream) {
  require_supported(call, workspace);
  auto* const bytes = static_cast<unsigned char*>(workspace);
  EightBitCall launched{.layout = call.layout,
                        .grid = TileGrid(call.layout, call.region_order),
                        .blocks = call.layout.blocks(),
                        .work_tiles = call.layout.heads * call.layout.blocks(),
                        .o = static_cast<uint4*>(call.o),
                        .o_strides = call.o_strides(),
                        .lse = call.lse,
                        // Dense rows are equally long: no order balances better.
                        .lists = call.dense() ? BlockLists{} : call.lists,
                        .operands = place_operands(call, workspace),
                        .next_tile = reinterpret_cast<int*>(bytes + counter_offset(call)),
                        .order = call.dense() ? TileOrder::of_dense(call.layout) : TileOrder::of_lists(call.layout),
                        .regions = call.layout.regions(),
                        .pooled_tiles = 0,
                        .dropped = {},
                        .whole = 0.0F,
                        .narrow = 0.0F,
                        .low = 0.0F};
  check(cudaMemsetAsync(launched.next_tile, 0, sizeof(int), stream), "cudaMemsetAsync of the counter");
  if (call.has_remainder()) {
    const float to_base_2 = call.scale * static_cast<float>(kLog2E);
    launched.pooled_tiles = pooled_tiles(call.layout);
    launched.dropped = write_dropped_blocks(call, bytes + eight_bit_bytes(call), stream);
    launched.whole = launched.dropped.whole * to_base_2;
    launched.narrow = launched.dropped.narrow * to_base_2;
    launched.low = launched.dropped.low * to_base_2;
  }
  call.element == Element::bfloat16 ? launch_for_remainder<Element::bfloat16>(launched, stream)
                                    : launch_for_remainder<Element::float16>(launched, stream);
}

AttentionKernel wgmma_8bit_kernel() {
  return {"wgmma_8bit",
          "fused, wgmma on INT8 queries and keys and E4M3 weights and values: Hopper",
          attend_8bit_unsupported,
          attend_8bit_workspace,
          [](const Attention& call, const Resources& resources, cudaStream_t stream) {
            quantise_for_8bit(call, resources.workspace, stream);
            attend_8bit(call, resources.workspace, stream);
          },
          [](const Attention& call, const Resources& resources, cudaStream_t stream) {
            quantise_for_8bit(call, resources.workspace, stream);
          },
          [](const Attention& call, const Resources& resources, cudaStream_t stream) {
            attend_8bit(call, resources.workspace, stream);
          }};
}

}  // namespace draft::gpu
