// Idea:     O = softmax(scale Q K^T) V over the kept blocks of each block row (eq. 5), one pass with a running
//           shift: nothing of size tokens^2 is stored. Dense attention is every block kept.
// Map:      one persistent CTA on each multiprocessor, which takes work tiles (128 queries of a head) from a counter.
//           Warps 0 to 2 load (mainloop_load.cuh), schedule (tile_scheduler.cuh) and store (epilogue.cuh). Two consumer
//           warpgroups have 64 of the queries each and go through the kept blocks, 128 keys at a time
//           (mainloop_mma.cuh). A warpgroup starts S of a block, then O += P V of the block before, also across work
//           tiles, and computes the softmax of S while the other warpgroup's products run. Q and P stay in registers.
//           The design is FlashAttention-3's (arXiv 2407.08608). Dense at head_dim 128, CTAs form pairs that share
//           every load of K and V.
// Needs:    sm_90a; head_dim 64 or 128; bf16 or fp16; q, k, v, o of any strides (strided.hpp), aligned to 16 bytes;
//           token order with regions of 128 tokens, or region order with regions of at most 128; lists as write_lists
//           makes them, or none for dense; pooled rows for a remainder, or none.
//           In either order a region is one box of a TMA copy, so nothing is gathered.
// Costs:    4 * 128 * 128 * head_dim FLOPs for each kept block. K and V are read once for each block row of queries, in
//           pairs once for two, from L2 as long as one head's K and V fit there. A remainder adds a tile of pooled
//           rows for every 128 regions to each block row of video.
// Numerics: S, the softmax and O in fp32, base 2; P rounded to the element type before P V. Rows of a tile that are no
//           tokens get weight 0 whatever the logits are. A row without a key has output 0 and lse = -inf. The lists fix
//           the order of sums, whichever CTA computes a block row: same input, same bits. With bf16 no maximum is taken
//           after the first block (MaximumTracking::first_block). A second launch recomputes the block rows in which
//           something overflowed or is not finite, and there looks at every logit (MaximumTracking::every_block).
//           fp16's only launch does so from the start.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/attend/wgmma/epilogue.cuh"
#include "kernels/attend/wgmma/kernel.hpp"
#include "kernels/attend/wgmma/mainloop_load.cuh"
#include "kernels/attend/wgmma/mainloop_mma.cuh"
#include "kernels/attend/wgmma/tensor_map.hpp"
#include "kernels/attend/wgmma/tile_scheduler.cuh"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {
namespace {

template <Element kElement, int kDim, MaximumTracking kMaximum, bool kPair, bool kRemainder>
__global__ void __launch_bounds__(kCtaThreads, 1) attend_wgmma_kernel(const __grid_constant__ WgmmaCall call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char tiles[];  // two tiles of Q, then the ring of K and V tiles
  __shared__ PipelineState state;
  const std::uint32_t q_tiles = shared_address(tiles);
  if (q_tiles % 1024 != 0) __trap();  // the swizzle is a function of address bits, so tiles must be aligned to it
  if (threadIdx.x == 0) {
    state.init(kPair ? 2 * kConsumerWarps : kConsumerWarps);
    barrier_init_done();
  }
  __syncthreads();
  if constexpr (kPair) meet_cluster();

  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp < 4) {
    give_registers<kProducerRegisters>();
    if (warp == 0) load<kDim, kPair, kRemainder>(call, state, q_tiles, lane);
    if (warp == 1) schedule_tiles<kPair>(call, state, lane);
    if (warp == 2) store_outputs<kDim>(call, state, q_tiles, lane);
  } else {
    take_registers<kConsumerRegisters>();
    Consumer<kElement, kDim, kMaximum, kPair, kRemainder>{call, state, q_tiles, {warp / 4 - 1}, warp % 4, lane, {}}
        .consume();
  }
  if constexpr (kPair) meet_cluster();  // a CTA must not end while the other may still write to its shared memory
#else
  __trap();  // never reached: attend_wgmma() refuses other GPUs
#endif
}

/// One launch over the work tiles of `call`.
template <Element kElement, int kDim, MaximumTracking kMaximum, bool kPair, bool kRemainder>
void launch(const WgmmaCall& call, cudaStream_t stream) {
  constexpr int kShared = TileSizes<kDim>::kSharedBytes;
  const auto kernel = attend_wgmma_kernel<kElement, kDim, kMaximum, kPair, kRemainder>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
  cudaLaunchAttribute pair{};
  pair.id = cudaLaunchAttributeClusterDimension;
  pair.val.clusterDim.x = 2;
  pair.val.clusterDim.y = pair.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(std::min(multiprocessors(), call.work_tiles));
  config.blockDim = dim3(kCtaThreads);
  config.dynamicSmemBytes = kShared;
  config.stream = stream;
  if constexpr (kPair) {
    config.attrs = &pair;
    config.numAttrs = 1;
    config.gridDim = dim3(2);
    // Ask how many pairs can run at once. It can be less than half the multiprocessors, since both CTAs of a pair must
    // be in one GPC.
    int at_a_time = 0;
    check(cudaOccupancyMaxActiveClusters(&at_a_time, kernel, &config), "cudaOccupancyMaxActiveClusters");
    const int pairs = call.work_tiles / call.blocks * ((call.blocks + 1) / 2);
    config.gridDim = dim3(2 * std::max(std::min(at_a_time, pairs), 1));
  }
  check(cudaLaunchKernelEx(&config, kernel, call), "cudaLaunchKernelEx of attend_wgmma_kernel");
}

/// fp16: one launch. bf16: a second one computes the work tiles again in which the first overflowed, mostly none.
template <Element kElement, int kDim, bool kRemainder>
void launch_all(WgmmaCall call, cudaStream_t stream) {
  const bool dense = call.lists.counts == nullptr;  // then there is no remainder
  constexpr MaximumTracking kFirst =
      kElement == Element::bfloat16 ? MaximumTracking::first_block : MaximumTracking::every_block;
  if constexpr (kDim == 128 && !kRemainder) {
    dense ? launch<kElement, kDim, kFirst, true, false>(call, stream)
          : launch<kElement, kDim, kFirst, false, false>(call, stream);
  } else {
    launch<kElement, kDim, kFirst, false, kRemainder>(call, stream);
  }
  if constexpr (kFirst == MaximumTracking::first_block) {
    call.only_recompute = true;
    ++call.next_tile;
    launch<kElement, kDim, MaximumTracking::every_block, false, kRemainder>(call, stream);
  }
}

template <Element kElement, bool kRemainder>
void launch_for_dim(int head_dim, const WgmmaCall& call, cudaStream_t stream) {
  head_dim == 64 ? launch_all<kElement, 64, kRemainder>(call, stream)
                 : launch_all<kElement, 128, kRemainder>(call, stream);
}

template <Element kElement>
void launch_for_remainder(int head_dim, const WgmmaCall& call, cudaStream_t stream) {
  call.pooled_tiles > 0 ? launch_for_dim<kElement, true>(head_dim, call, stream)
                        : launch_for_dim<kElement, false>(head_dim, call, stream);
}

bool has_partial_blocks(const Layout& layout) {
  return layout.region_tokens() != kTileRows || layout.height % layout.region_height != 0 ||
         layout.width % layout.region_width != 0;
}

/// The workspace, in integers: the two launches' tile counters, RecomputeList's count and `listed`, which are cleared
/// before a launch, and RecomputeList's tiles.
std::size_t cleared_integers(const Layout& layout) {
  return 3 + static_cast<std::size_t>(layout.heads) * layout.blocks();
}

/// The integers' bytes, rounded up to where the remainder's part may start.
std::size_t bytes_of_integers(const Layout& layout) {
  constexpr std::size_t kAlignment = 16;
  const std::size_t bytes = (2 * cleared_integers(layout) - 3) * sizeof(int);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::string attend_wgmma_unsupported(const Attention& call, int capability) {
  const Layout& layout = call.layout;
  if (std::string reason = why_not_sm90a(capability); !reason.empty()) return reason;
  if (layout.head_dim != 64 && layout.head_dim != 128) {
    return "head_dim must be 64 or 128, found " + std::to_string(layout.head_dim);
  }
  if (const std::string reason = boxes_unsupported(layout, call.region_order); !reason.empty()) {
    return reason + ", found " + std::to_string(layout.region_height) + " x " + std::to_string(layout.region_width);
  }
  return "";
}

std::size_t attend_wgmma_workspace(const Attention& call) {
  return bytes_of_integers(call.layout) + dropped_blocks_workspace(call);
}

void attend_wgmma(const Attention& call, void* workspace, cudaStream_t stream) {
  require_valid(call);
  require_aligned("attend_wgmma: workspace", workspace);
  if (const std::string reason = attend_wgmma_unsupported(call, device_capability()); !reason.empty()) {
    throw std::invalid_argument("attend_wgmma: " + reason);
  }
  const int work_tiles = call.layout.heads * call.layout.blocks();
  int* const integers = static_cast<int*>(workspace);
  WgmmaCall launched{.q = {},
                     .k = {},
                     .v = {},
                     .o = {},
                     .grid = TileGrid(call.layout, call.region_order),
                     .blocks = call.layout.blocks(),
                     .work_tiles = work_tiles,
                     .tokens = call.layout.tokens(),
                     .partial_blocks = has_partial_blocks(call.layout),
                     .partial_end = call.layout.text % kTileRows != 0,
                     .scale = call.scale,
                     .lse = call.lse,
                     // Dense rows are equally long: no order balances better.
                     .lists = call.dense() ? BlockLists{} : call.lists,
                     .next_tile = integers,
                     .recompute = {integers + 2, integers + 3, integers + 3 + work_tiles},
                     .only_recompute = false,
                     .order = call.dense() ? TileOrder::of_dense(call.layout) : TileOrder::of_lists(call.layout),
                     .pooled_k = {},
                     .pooled_v = {},
                     .regions = call.layout.regions(),
                     .pooled_tiles = 0,
                     .dropped = {}};
  const auto encode = [&](CUtensorMap(&to)[kTileMaps], const char* name, const void* tensor, const Strides& strides) {
    std::ranges::copy(encode_maps(name, launched.grid, call.element, tensor, strides), to);
  };
  encode(launched.q, "q", call.q, call.q_strides());
  encode(launched.k, "k", call.k, call.k_strides());
  encode(launched.v, "v", call.v, call.v_strides());
  encode(launched.o, "o", call.o, call.o_strides());
  check(cudaMemsetAsync(workspace, 0, cleared_integers(call.layout) * sizeof(int), stream),
        "cudaMemsetAsync of the workspace");
  if (call.has_remainder()) {
    launched.pooled_tiles = pooled_tiles(call.layout);
    launched.pooled_k = encode_pooled_map(call.layout, call.element, call.pooled_k);
    launched.pooled_v = encode_pooled_map(call.layout, call.element, call.pooled_v);
    launched.dropped =
        write_dropped_blocks(call, static_cast<unsigned char*>(workspace) + bytes_of_integers(call.layout), stream);
  }
  call.element == Element::bfloat16 ? launch_for_remainder<Element::bfloat16>(call.layout.head_dim, launched, stream)
                                    : launch_for_remainder<Element::float16>(call.layout.head_dim, launched, stream);
}

AttentionKernel wgmma_kernel() {
  return {"wgmma", "fused, wgmma and TMA: Hopper, regions read in token order as boxes", attend_wgmma_unsupported,
          attend_wgmma_workspace, [](const Attention& call, const Resources& resources, cudaStream_t stream) {
            attend_wgmma(call, resources.workspace, stream);
          }};
}

}  // namespace draft::gpu
