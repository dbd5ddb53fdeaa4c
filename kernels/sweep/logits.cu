// Idea:     one pass over S = Q K^T. For each block: its least, largest and mean entry, the sum of squares about the
//           mean, and the mass sum P, P = softmax(scale S). For each row: lse = log sum exp(scale S) over video and
//           text.
// Map:      one CTA of 4 warps has 64 queries of one block row and goes through all key blocks, 64 keys at a time,
//           while the next tile is copied; a warp has 16 of the queries. Partial results go to scratch: statistics for
//           each warp and block, mass for each row and block. Then one warp for each block combines them; or the mass
//           for each row and block is what is asked for.
// Needs:    sm_80 on; head_dim 64 or 128; bf16 or fp16; q, k in token order, aligned to 16 bytes; any region size.
// Costs:    2 * video * tokens * head_dim FLOPs and video * tokens exponentials a head. Scratch, written and read once:
//           8 bytes for each row and block, 64 for each tile and block, at most 1 GiB at a time.
// Numerics: S in fp32. Sums of squares are about the mean: of a lane's 32 entries of a tile first, then combined by the
//           parallel-axis theorem, in fp32 within a warp's 16 rows, in fp64 beyond. Exponentials to base 2 with a
//           running maximum that is a whole number, so that rescaling a sum is exact; sums within a tile in fp32, over
//           tiles in fp64. Padding is in no sum. No atomics: same input, same bits.

#include <algorithm>

#include "kernels/core/cuda_check.hpp"
#include "kernels/sweep/sweeps.hpp"
#include "kernels/sweep/tiles.cuh"

namespace draft::gpu {
namespace {

constexpr std::size_t kMostScratch = std::size_t{1} << 30;
constexpr int kWarps = kSweepThreads / 32;

/// Statistics of a set of numbers; `square` is the sum of squares about their mean.
template <typename T>
struct Spread {
  T count = 0, mean = 0, square = 0;
  T low = kInfinity, high = -kInfinity;
};

template <typename T>
__device__ void join(Spread<T>& sum, const Spread<T>& part) {  // parallel-axis theorem
  const T count = sum.count + part.count;
  if (count == T(0)) return;
  const T share = part.count / count, apart = part.mean - sum.mean;
  sum.mean += apart * share;
  sum.square += part.square + apart * apart * (sum.count * share);
  sum.count = count;
  sum.low = min(sum.low, part.low);
  sum.high = max(sum.high, part.high);
}

/// Combines the statistics of the warp's 32 lanes; lane 0 has the result.
template <typename T>
__device__ void join_lanes(Spread<T>& own) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    Spread<T> other;
    other.count = __shfl_down_sync(~0U, own.count, distance);
    other.mean = __shfl_down_sync(~0U, own.mean, distance);
    other.square = __shfl_down_sync(~0U, own.square, distance);
    other.low = __shfl_down_sync(~0U, own.low, distance);
    other.high = __shfl_down_sync(~0U, own.high, distance);
    join(own, other);
  }
}

/// Statistics of a lane's entries of a tile. kFull: all rows and keys are tokens, so that none need be left out.
template <bool kFull>
__device__ Spread<float> lane_spread(const float (&s)[kTile / 8][4], int keys, const bool (&real)[2]) {
  Spread<float> own;
  const auto each = [&](auto&& visit) {
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (kFull || (real[i / 2] && n * 8 + (lane_id() & 3) * 2 + (i & 1) < keys)) visit(s[n][i]);
      }
    }
  };
  each([&](float logit) {
    if (!kFull) own.count += 1.0F;
    own.mean += logit;
    own.low = fminf(own.low, logit);
    own.high = fmaxf(own.high, logit);
  });
  if (kFull) {
    own.count = kTile / 2;
    own.mean *= 2.0F / kTile;
  } else if (own.count > 0.0F) {
    own.mean /= own.count;
  }
  each([&](float logit) { own.square = fmaf(logit - own.mean, logit - own.mean, own.square); });
  return own;
}

/// Partial results in scratch; the first index is the launch's query tile.
struct Partials {
  float2* mass;   // [tiles, block_columns, kTile]: a row's sum of 2^(scale2 S - y) over the block, and y
  float4* stats;  // [tiles, regions, kWarps]: least, largest, mean, centred square
};

template <Element kElement, int kDim, bool kStats>
__global__ void __launch_bounds__(kSweepThreads, 3)
    logit_kernel(const __grid_constant__ SweepCall call, const __grid_constant__ BlockMap map, int first_row,
                 Partials partials, double* lse) {
  constexpr int kBytes = kTile * kDim * 2;
  extern __shared__ __align__(256) unsigned char shared[];
  __shared__ int queries[kTile];
  __shared__ SweepTile tiles[kAhead];
  __shared__ SweepWalk<false> walk;
  const std::uint32_t q_tile = shared_address(shared), k_tiles = q_tile + kBytes;

  const Layout& layout = call.layout;
  const int regions = layout.regions(), columns = block_columns(layout), tiles_a_row = tiles_a_region(layout);
  const int block_row = first_row + static_cast<int>(blockIdx.x) / tiles_a_row;
  const int head = block_row / regions, query_tile = static_cast<int>(blockIdx.x) % tiles_a_row;
  const BlockRows rows = map.rows(block_row % regions);
  if (query_tile * kTile >= rows.count) return;

  const std::int64_t head_offset = layout.offset(head, 0);
  const std::uint16_t* k_head = static_cast<const std::uint16_t*>(call.k) + head_offset;
  list_queries(rows, query_tile, queries);
  if (warp_id() == 0) {
    walk.begin(map, true, nullptr, nullptr, 0);
    walk.write_next(map, tiles[0]);
    walk.write_next(map, tiles[1]);
  }
  __syncthreads();
  copy_rows<kDim>(q_tile, static_cast<const std::uint16_t*>(call.q) + head_offset, queries);
  copy_rows<kDim>(k_tiles, k_head, tiles[0].tokens);
  commit_copies();

  const int lane = lane_id(), own_row = warp_id() * kWarpRows + lane / 4;  // and own_row + 8
  const bool real[2] = {queries[own_row] >= 0, queries[own_row + 8] >= 0};
  const bool warp_is_full = query_tile * kTile + (warp_id() + 1) * kWarpRows <= rows.count;
  const float scale2 = static_cast<float>(call.scale * kLog2E);
  float shift[2] = {-kInfinity, -kInfinity};
  double total[2] = {}, block_sum[2] = {};
  Spread<float> spread;

  for (int slot = 0, parity = 0;; parity ^= 1) {
    const int next = slot == kAhead - 1 ? 0 : slot + 1, after = next == kAhead - 1 ? 0 : next + 1;
    wait_for_copies();
    __syncthreads();  // this K has arrived, and all warps have read the one before and its list of tokens
    const int keys = tiles[slot].keys, column = tiles[slot].group;
    const bool ends = tiles[slot].ends;
    if (keys == 0) break;
    copy_rows<kDim>(k_tiles + (parity ^ 1) * kBytes, k_head, tiles[next].tokens);
    commit_copies();
    if (warp_id() == 0) walk.write_next(map, tiles[after]);
    slot = next;

    float s[kTile / 8][4];
    multiply_logits<kElement, kDim>(s, q_tile, k_tiles + parity * kBytes);
    if (kStats && column < regions) {
      const bool full = keys == kTile && warp_is_full;
      join(spread, full ? lane_spread<true>(s, keys, real) : lane_spread<false>(s, keys, real));
    }
    leave_out_padding(s, keys);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float raised = fmaxf(shift[half], ceilf(highest_in_row(s, half) * scale2));
      if (raised > shift[half]) {
        const double shrink = power_of_two(shift[half] - raised);
        total[half] *= shrink;
        block_sum[half] *= shrink;
        shift[half] = raised;
      }
      float sum = 0.0F;
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
        sum += exp2_fast(fmaf(s[n][2 * half], scale2, -raised)) + exp2_fast(fmaf(s[n][2 * half + 1], scale2, -raised));
      }
      block_sum[half] += sum;
    }
    if (!ends) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const double sum = sum_of_quad(block_sum[half]);
      if ((lane & 3) == 0 && real[half]) {
        const std::int64_t entry = static_cast<std::int64_t>(blockIdx.x) * columns + column;
        partials.mass[entry * kTile + own_row + 8 * half] = {static_cast<float>(sum), shift[half]};
      }
      total[half] += block_sum[half];
      block_sum[half] = 0.0;
    }
    if (kStats && column < regions) {
      join_lanes(spread);
      if (lane == 0) {
        const std::int64_t entry = static_cast<std::int64_t>(blockIdx.x) * regions + column;
        partials.stats[entry * kWarps + warp_id()] = {spread.low, spread.high, spread.mean, spread.square};
      }
      spread = {};
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const double sum = sum_of_quad(total[half]);
    if ((lane & 3) == 0 && real[half]) {
      lse[static_cast<std::int64_t>(head) * layout.video() + queries[own_row + 8 * half]] =
          shift[half] * kLn2 + log(sum);
    }
  }
}

/// One warp for each block of the launch's block rows: combines its partial results.
template <bool kStats>
__global__ void __launch_bounds__(kSweepThreads, 4)
    join_kernel(const __grid_constant__ Layout layout, const __grid_constant__ BlockMap map, int first_row,
                Partials partials, BlockMass out, BlockStats stats) {
  const int regions = layout.regions(), columns = block_columns(layout), tiles_a_row = tiles_a_region(layout);
  const int column = static_cast<int>(blockIdx.x) * kWarps + warp_id();
  const int block_row = first_row + static_cast<int>(blockIdx.y);
  if (column >= columns) return;
  const BlockRows rows = map.rows(block_row % regions);
  const std::int64_t first_tile = static_cast<std::int64_t>(blockIdx.y) * tiles_a_row;
  const double* lse = out.lse + static_cast<std::int64_t>(block_row / regions) * layout.video();

  double mass = 0.0;
  for (int row = lane_id(); row < rows.count; row += 32) {
    const float2 part = partials.mass[((first_tile + row / kTile) * columns + column) * kTile + row % kTile];
    mass += part.x * exp(part.y * kLn2 - lse[rows.token(row)]);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) mass += __shfl_down_sync(~0U, mass, distance);
  const std::int64_t block = static_cast<std::int64_t>(block_row) * regions + column;
  if (lane_id() == 0) (column == regions ? out.text_mass[block_row] : out.mass[block]) = mass;
  if (lane_id() == 0 && column == 0 && layout.text == 0) out.text_mass[block_row] = 0.0;
  if (!kStats || column == regions) return;

  const int keys = map.rows(column).count, parts = (rows.count + kWarpRows - 1) / kWarpRows;
  Spread<double> spread;
  for (int part = lane_id(); part < parts; part += 32) {
    const float4 found = partials.stats[((first_tile + part / kWarps) * regions + column) * kWarps + part % kWarps];
    Spread<double> own;
    own.count = static_cast<double>(min(kWarpRows, rows.count - part * kWarpRows)) * keys;
    own.low = found.x;
    own.high = found.y;
    own.mean = found.z;
    own.square = found.w;
    join(spread, own);
  }
  join_lanes(spread);
  if (lane_id() != 0) return;
  stats.minimum[block] = spread.low;
  stats.maximum[block] = spread.high;
  stats.mean[block] = spread.mean;
  stats.centred_square[block] = spread.square;
}

/// One CTA for each query tile of the launch's block rows: from partial results to the mass of each row in each block.
__global__ void __launch_bounds__(kSweepThreads, 4)
    row_mass_kernel(const __grid_constant__ Layout layout, const __grid_constant__ BlockMap map, int first_row,
                    Partials partials, const double* __restrict__ lse, float* __restrict__ masses) {
  const int regions = layout.regions(), columns = block_columns(layout), tiles_a_row = tiles_a_region(layout);
  const int block_row = first_row + static_cast<int>(blockIdx.x) / tiles_a_row;
  const int query_tile = static_cast<int>(blockIdx.x) % tiles_a_row;
  const BlockRows rows = map.rows(block_row % regions);
  const float2* own = partials.mass + static_cast<std::int64_t>(blockIdx.x) * columns * kTile;
  const std::int64_t head = static_cast<std::int64_t>(block_row / regions) * layout.video();
  for (int entry = static_cast<int>(threadIdx.x); entry < regions * kTile; entry += kSweepThreads) {
    const int row = entry / regions, column = entry % regions;
    if (query_tile * kTile + row >= rows.count) break;  // rows rise
    const std::int64_t token = head + rows.token(query_tile * kTile + row);
    const float2 part = own[column * kTile + row];
    masses[token * regions + column] = static_cast<float>(part.x * exp(part.y * kLn2 - lse[token]));
  }
}

std::size_t mass_bytes(const Layout& layout) {
  return sizeof(float2) * kTile * static_cast<std::size_t>(tiles_a_region(layout)) *
         static_cast<std::size_t>(block_columns(layout));
}
std::size_t row_bytes(const Layout& layout) {
  return mass_bytes(layout) + sizeof(float4) * kWarps * static_cast<std::size_t>(tiles_a_region(layout)) *
                                  static_cast<std::size_t>(layout.regions());
}
/// Block rows of one launch: as many as fit the scratch, and 65,535 at most, the limit of a grid's y axis.
std::int64_t rows_at_a_time(const Layout& layout) {
  const auto fitting = static_cast<std::int64_t>(std::max<std::size_t>(kMostScratch / row_bytes(layout), 1));
  return std::min({fitting, static_cast<std::int64_t>(layout.heads) * layout.regions(), std::int64_t{65535}});
}

/// Calls join(partials, first block row, block rows) after each launch's partial results.
template <bool kStats, typename Join>
void sweep(const SweepCall& call, void* scratch, double* lse, const Join& join, cudaStream_t stream) {
  const Layout& layout = call.layout;
  const std::int64_t rows = static_cast<std::int64_t>(layout.heads) * layout.regions(), step = rows_at_a_time(layout);
  const Partials partials{
      static_cast<float2*>(scratch),
      reinterpret_cast<float4*>(static_cast<char*>(scratch) + mass_bytes(layout) * static_cast<std::size_t>(step))};
  for (std::int64_t first = 0; first < rows; first += step) {
    const auto first_row = static_cast<int>(first), count = static_cast<int>(std::min(step, rows - first));
    for_element_and_dim(call, [&]<Element kElement, int kDim>() {
      constexpr int kShared = 3 * kTile * kDim * 2;
      const auto kernel = logit_kernel<kElement, kDim, kStats>;
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
      kernel<<<static_cast<unsigned>(count * tiles_a_region(layout)), kSweepThreads, kShared, stream>>>(
          call, BlockMap(layout, false), first_row, partials, lse);
      check_launch("logit_kernel");
    });
    join(partials, first_row, count);
  }
}

template <bool kStats>
void sweep_blocks(const SweepCall& call, void* scratch, const BlockMass& mass, const BlockStats& stats,
                  cudaStream_t stream) {
  const auto join = [&](const Partials& partials, int first_row, int count) {
    const dim3 grid((block_columns(call.layout) + kWarps - 1) / kWarps, count);
    join_kernel<kStats><<<grid, kSweepThreads, 0, stream>>>(call.layout, BlockMap(call.layout, false), first_row,
                                                            partials, mass, stats);
    check_launch("join_kernel");
  };
  sweep<kStats>(call, scratch, mass.lse, join, stream);
}

void require_mass(const BlockMass& mass, const void* scratch) {
  require_aligned("block mass: scratch", scratch);
  require_aligned("block mass: mass", mass.mass);
  require_aligned("block mass: text_mass", mass.text_mass);
  require_aligned("block mass: lse", mass.lse);
}

}  // namespace

std::size_t logit_sweep_scratch(const Layout& layout) {
  require_valid(layout);
  return row_bytes(layout) * static_cast<std::size_t>(rows_at_a_time(layout));
}

void sweep_logits(const SweepCall& call, void* scratch, const BlockMass& mass, const BlockStats& stats,
                  cudaStream_t stream) {
  require_valid(call, false);
  require_mass(mass, scratch);
  require_aligned("block statistics: minimum", stats.minimum);
  require_aligned("block statistics: maximum", stats.maximum);
  require_aligned("block statistics: mean", stats.mean);
  require_aligned("block statistics: centred_square", stats.centred_square);
  sweep_blocks<true>(call, scratch, mass, stats, stream);
}

void block_mass(const SweepCall& call, void* scratch, const BlockMass& mass, cudaStream_t stream) {
  require_valid(call, false);
  require_mass(mass, scratch);
  sweep_blocks<false>(call, scratch, mass, {}, stream);
}

void row_masses(const SweepCall& call, void* scratch, double* lse, float* masses, cudaStream_t stream) {
  require_valid(call, false);
  require_aligned("row masses: scratch", scratch);
  require_aligned("row masses: lse", lse);
  require_aligned("row masses: masses", masses);
  const auto join = [&](const Partials& partials, int first_row, int count) {
    const auto tiles = static_cast<unsigned>(count * tiles_a_region(call.layout));
    row_mass_kernel<<<tiles, kSweepThreads, 0, stream>>>(call.layout, BlockMap(call.layout, false), first_row, partials,
                                                         lse, masses);
    check_launch("row_mass_kernel");
  };
  sweep<false>(call, scratch, lse, join, stream);
}

}  // namespace draft::gpu
