// Idea:     the order in which the mask sweep goes through a block row: its columns sorted by level, the first mask
//           that keeps them.
// Map:      one warp for each block row; it reads the row once for each level and writes that level's columns, placed
//           by ballots.
// Needs:    levels [heads, regions, regions], 1 to 254 masks; sm_80 on.
// Costs:    reads regions^2 (masks + 1) bytes a head, mostly from the caches; writes 2 regions^2.
// Numerics: integers; equal levels by rising column. A level above `masks` counts as `masks`.

#include "kernels/core/cuda_check.hpp"
#include "kernels/sweep/mask_rows.hpp"
#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    sort_kernel(int rows, int regions, int masks, const std::uint8_t* __restrict__ levels,
                std::uint16_t* __restrict__ columns, std::int32_t* __restrict__ ends) {
  const int row = static_cast<int>(blockIdx.x) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= rows) return;
  const std::uint8_t* own = levels + static_cast<std::int64_t>(row) * regions;
  std::uint16_t* sorted = columns + static_cast<std::int64_t>(row) * regions;
  int written = 0;
  for (int level = 0; level <= masks; ++level) {
    for (int first = 0; first < regions; first += 32) {
      const int column = first + lane;
      const bool here = column < regions && min(static_cast<int>(own[column]), masks) == level;
      const unsigned which = __ballot_sync(~0U, here);
      if (here) sorted[written + __popc(which & ((1U << lane) - 1U))] = static_cast<std::uint16_t>(column);
      written += __popc(which);
    }
    if (lane == 0) ends[static_cast<std::int64_t>(row) * (masks + 1) + level] = written;
  }
}

}  // namespace

void sort_by_level(const Layout& layout, const NestedMasks& family, std::uint16_t* columns, std::int32_t* ends,
                   cudaStream_t stream) {
  const int rows = layout.heads * layout.regions();
  constexpr int kRows = kThreads / 32;
  sort_kernel<<<static_cast<unsigned>((rows + kRows - 1) / kRows), kThreads, 0, stream>>>(
      rows, layout.regions(), family.masks, family.levels, columns, ends);
  check_launch("sort_kernel");
}

}  // namespace draft::gpu
