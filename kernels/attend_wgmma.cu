// Idea:     O = softmax(scale Q K^T) V over the kept blocks of each block row (eq. 5), one pass with a running
//           maximum: nothing of size tokens^2 is stored. Dense attention is every block kept.
// Map:      one CTA a multiprocessor, which takes block rows (128 queries of a head) from a counter. Warps 0 to 3
//           schedule, load and store (wgmma_producer.cuh); two consumer warpgroups have 64 of the queries each and
//           go through the kept blocks, 128 keys at a time. A group starts S of a block, then O += P V of the block
//           before, and computes the softmax of S while that product and the other group's run: the groups take turns
//           at the tensor cores. P stays in registers. The design is FlashAttention-3's (arXiv 2407.08608).
// Needs:    sm_90a; head_dim 64 or 128; bf16 or fp16; q, k, v, o aligned to 16 bytes; token order with regions of 128
//           tokens, or region order with regions of at most 128; lists as write_lists makes them, or none for dense.
//           A region is one box of the copy engine in either order, so nothing is gathered.
// Costs:    4 * 128 * 128 * head_dim FLOPs a kept block; K and V are read once a block row of queries, from L2 while
//           one head's K and V stay there.
// Numerics: S, the softmax and O in fp32, base 2; P rounded to the element type before P V. Keys that do not exist
// weigh
//           0 whatever the logits are. A row without a key has output 0 and lse = -inf. The order of sums is fixed
//           by the lists, whichever CTA takes a block row: same input, same bits.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/arguments.hpp"
#include "kernels/attend_wgmma.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/row_softmax.cuh"
#include "kernels/tensor_map.hpp"
#include "kernels/wgmma.cuh"
#include "kernels/wgmma_producer.cuh"

namespace draft::gpu {
namespace {

constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kThreads = 3 * kGroup;

constexpr bool kBuiltForSm90a = DRAFT_BUILT_FOR_SM90A != 0;  // kernels/CMakeLists.txt

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// 168 registers a thread at the start; 128 * 40 + 256 * 232 are as many in all.
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

/// S = Q K^T of a warpgroup's 64 queries and 128 keys.
template <Element kElement, int kDim>
__device__ void start_scores(float (&s)[64], std::uint64_t q, std::uint64_t k) {
  begin_products();
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
    multiply_shared<kElement>(s, q + channel_step(d), k + channel_step(d), d > 0 ? 1 : 0);
  }
  commit_products();
}

/// O += P V.
template <Element kElement, int kSums>
__device__ void start_outputs(float (&o)[kSums], const std::uint32_t (&p)[8][4], std::uint64_t v) {
  begin_products();
#pragma unroll
  for (int n = 0; n < kTileRows / 16; ++n) multiply_left<kElement>(o, p[n], v + row_step(n));
  commit_products();
}

/// The two consumer warpgroups' turns at the tensor cores. Each has a named barrier: its owner waits there for the
/// other group to pass. Both have the same blocks and so as many turns. The second group passes once before it
/// begins, and the first waits once more after its end, so every arrival is met.
struct TensorCoreTurns {
  int group;
  __device__ void begin() const {
    if (group == 1) pass();
  }
  __device__ void wait() const { named_sync(1 + group, 2 * kGroup); }
  __device__ void pass() const { named_arrive(2 - group, 2 * kGroup); }
  __device__ void end() const {
    if (group == 0) wait();
  }
};

template <int kDim>
struct Consumer {
  using Sizes = TileSizes<kDim>;
  const WgmmaCall& call;
  PipelineState& state;
  std::uint32_t q_tiles;
  TensorCoreTurns turns;
  int warp, lane;  // warp: of the group's four
  Ring<Sizes::kStages> ring;

  __device__ std::uint64_t descriptor(std::uint32_t tile, std::uint32_t leading) const {
    return matrix_descriptor(tile, leading, kEightRows);
  }
  __device__ std::uint64_t staged(int stage, std::uint32_t leading) const {
    return descriptor(q_tiles + (2 + stage) * Sizes::kTileBytes, leading);
  }
  /// Waits for the ring's next tile and gives its stage.
  __device__ int next_tile() {
    const int stage = ring.stage;
    wait_for_phase(shared_address(&state.full[stage]), ring.parity);
    ring.advance();
    return stage;
  }
  /// Which of the 128 rows of a stage's K are tokens. One lane reads, the one that frees the stage.
  __device__ uint4 real_rows_of(int stage) const {
    if (!call.partial) return make_uint4(~0U, ~0U, ~0U, ~0U);
    uint4 real{};
    if (lane == 0) real = state.real[stage];
    return make_uint4(__shfl_sync(0xffffffffU, real.x, 0), __shfl_sync(0xffffffffU, real.y, 0),
                      __shfl_sync(0xffffffffU, real.z, 0), __shfl_sync(0xffffffffU, real.w, 0));
  }
  __device__ void free_tile(int stage) const { arrive_warp(state.empty[stage], lane); }

  /// All blocks of one block row. Tiles are waited for in the ring's order: K0, K1, V0, K2, V1, ...
  template <Element kElement>
  __device__ void attend_row(int count, Place place, float (&o)[kDim / 2], RowSoftmax& softmax) {
    const std::uint64_t q = descriptor(q_tiles + place.index * Sizes::kTileBytes + turns.group * 8 * kEightRows, 16);
    float s[64];
    std::uint32_t p[8][4];
    int k_stage = next_tile();
    uint4 real = real_rows_of(k_stage);
    turns.wait();
    start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
    turns.pass();
    wait_for_products<0>(s);
    free_tile(k_stage);
    if ((real.x & real.y & real.z & real.w) != ~0U) mask_columns(s, real, lane);
    softmax.weigh(s);
    pack_weights<kElement>(p, s);

    for (int j = 1; j < count; ++j) {
      k_stage = next_tile();
      real = real_rows_of(k_stage);
      turns.wait();
      start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
      const int v_stage = next_tile();
      start_outputs<kElement>(o, p, staged(v_stage, kSlabBytes));
      turns.pass();
      wait_for_products<1>(s);
      free_tile(k_stage);
      if ((real.x & real.y & real.z & real.w) != ~0U) mask_columns(s, real, lane);
      softmax.weigh(s);
      softmax.stay_ahead_of_wait();
      wait_for_products(o, p);
      free_tile(v_stage);
      pack_weights<kElement>(p, s);
      softmax.scale_down(o);
    }

    const int v_stage = next_tile();
    start_outputs<kElement>(o, p, staged(v_stage, kSlabBytes));
    wait_for_products(o, p);
    free_tile(v_stage);
  }
};

/// Puts this warp's rows of O where its rows of Q were, for the storer, and writes their lse.
template <Element kElement, int kDim>
__device__ void hand_over(Consumer<kDim>& own, const float (&o)[kDim / 2], const float (&lse)[2], Place place,
                          const Work& work) {
  const int warp_row = own.turns.group * 64 + own.warp * 16;  // of the tile
  const std::uint32_t tile = own.q_tiles + place.index * TileSizes<kDim>::kTileBytes;
#pragma unroll
  for (int c = 0; c < kDim / 16; ++c) {
    store_matrices(tile + swizzled_offset(warp_row + own.lane % 16, 2 * c + own.lane / 16),
                   pack<kElement>(o[8 * c], o[8 * c + 1]), pack<kElement>(o[8 * c + 2], o[8 * c + 3]),
                   pack<kElement>(o[8 * c + 4], o[8 * c + 5]), pack<kElement>(o[8 * c + 6], o[8 * c + 7]));
  }
  publish_to_copy_engine();
  arrive_warp(own.state.o_full[place.index], own.lane);
  if (own.lane % 4 != 0) return;
  float* rows = own.call.lse + static_cast<std::int64_t>(work.head) * own.call.tokens;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + half * 8 + own.lane / 4;
    if (own.call.grid.holds(work.box.map, work.box.rows, work.box.columns, row)) {
      rows[own.call.grid.token(work.box, row)] = lse[half];
    }
  }
}

template <Element kElement, int kDim>
__device__ void consume(Consumer<kDim> own) {
  own.turns.begin();
  for (int n = 0;; ++n) {
    const Place place(n);
    wait_for_phase(shared_address(&own.state.work_full[place.index]), place.parity);
    const Work& work = own.state.works[place.index];
    const int count = __shfl_sync(0xffffffffU, work.count, 0);
    if (count < 0) break;
    wait_for_phase(shared_address(&own.state.q_full[place.index]), place.parity);
    float o[kDim / 2] = {};
    RowSoftmax softmax(own.call.scale);
    if (count > 0) own.template attend_row<kElement>(count, place, o, softmax);
    float lse[2];
    softmax.finish(o, lse, own.call.scale);
    hand_over<kElement>(own, o, lse, place, work);
    arrive_lanes(own.state.work_empty[place.index]);
  }
  own.turns.end();
}

#endif

template <Element kElement, int kDim>
__global__ void __launch_bounds__(kThreads, 1) attend_wgmma_kernel(const __grid_constant__ WgmmaCall call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char tiles[];  // Q, Q, then the ring
  __shared__ PipelineState state;
  const std::uint32_t q_tiles = shared_address(tiles);
  if (q_tiles % 1024 != 0) __trap();  // the swizzle goes by address bits
  if (threadIdx.x == 0) {
    state.init();
    barrier_init_done();
  }
  __syncthreads();

  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp < 4) {
    give_registers<kProducerRegisters>();
    if (warp == 0) load<kDim>(call, state, q_tiles, lane);
    if (warp == 1) schedule(call, state, lane);
    if (warp == 2) store<kDim>(call, state, q_tiles, lane);
  } else {
    take_registers<kConsumerRegisters>();
    consume<kElement>(Consumer<kDim>{call, state, q_tiles, {warp / 4 - 1}, warp % 4, lane, {}});
  }
#else
  __trap();  // attend_wgmma() lets no other GPU come here
#endif
}

template <Element kElement, int kDim>
void launch(const WgmmaCall& call, cudaStream_t stream) {
  constexpr int kShared = TileSizes<kDim>::kSharedBytes;
  const auto kernel = attend_wgmma_kernel<kElement, kDim>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
  int device = 0, multiprocessors = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  kernel<<<std::min(multiprocessors, call.works), kThreads, kShared, stream>>>(call);
  check_launch("attend_wgmma_kernel");
}

bool has_partial_blocks(const Layout& layout) {
  return layout.region_tokens() != kTileRows || layout.height % layout.region_height != 0 ||
         layout.width % layout.region_width != 0 || layout.text % kTileRows != 0;
}

template <Element kElement>
void launch_for_dim(int head_dim, const WgmmaCall& call, cudaStream_t stream) {
  head_dim == 64 ? launch<kElement, 64>(call, stream) : launch<kElement, 128>(call, stream);
}

}  // namespace

std::string attend_wgmma_unsupported(const Attention& call, int capability) {
  const Layout& layout = call.layout;
  if (!kBuiltForSm90a) return "this build holds no code for sm_90a (DRAFT_CUDA_ARCHITECTURES)";
  if (capability != 90) {
    return "needs compute capability 9.0, found " + std::to_string(capability / 10) + "." +
           std::to_string(capability % 10);
  }
  if (layout.head_dim != 64 && layout.head_dim != 128) {
    return "head_dim must be 64 or 128, found " + std::to_string(layout.head_dim);
  }
  if (const std::string reason = boxes_unsupported(layout, call.region_order); !reason.empty()) {
    return reason + ", found " + std::to_string(layout.region_height) + " x " + std::to_string(layout.region_width);
  }
  return "";
}

std::size_t attend_wgmma_workspace(const Attention&) { return sizeof(int); }

void attend_wgmma(const Attention& call, void* workspace, cudaStream_t stream) {
  require_valid(call);
  require_aligned("attend_wgmma: workspace", workspace);
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  if (const std::string reason = attend_wgmma_unsupported(call, major * 10 + minor); !reason.empty()) {
    throw std::invalid_argument("attend_wgmma: " + reason);
  }
  WgmmaCall launched{.q = {},
                     .k = {},
                     .v = {},
                     .o = {},
                     .grid = TileGrid(call.layout, call.region_order),
                     .blocks = call.layout.blocks(),
                     .works = call.layout.heads * call.layout.blocks(),
                     .tokens = call.layout.tokens(),
                     .partial = has_partial_blocks(call.layout),
                     .scale = call.scale,
                     .lse = call.lse,
                     .columns = call.columns,
                     .counts = call.counts,
                     .order = call.order,
                     .taken = static_cast<int*>(workspace)};
  const auto encode = [&](CUtensorMap(&to)[kTileMaps], const void* tensor) {
    std::ranges::copy(encode_maps(launched.grid, call.element, tensor), to);
  };
  encode(launched.q, call.q);
  encode(launched.k, call.k);
  encode(launched.v, call.v);
  encode(launched.o, call.o);
  check(cudaMemsetAsync(workspace, 0, attend_wgmma_workspace(call), stream), "cudaMemsetAsync of the counter");
  call.element == Element::bfloat16 ? launch_for_dim<Element::bfloat16>(call.layout.head_dim, launched, stream)
                                    : launch_for_dim<Element::float16>(call.layout.head_dim, launched, stream);
}

}  // namespace draft::gpu
