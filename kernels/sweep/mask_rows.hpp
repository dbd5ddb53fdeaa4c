#pragma once
// What the mask sweep leaves for each row at each level, and the steps that follow it.

#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {

/// One row when it has walked the blocks of one level. P is dense attention, P^M and O^M those of the mask that
/// keeps this level and all below. Level `masks`, the blocks that no mask keeps, has the first two numbers alone.
struct LevelRow {
  double mass, square;              // sums of P and of P^2 over the level's blocks; text belongs to level 0
  double sharpness;                 // sum of (P^M)^2; 0 where the row keeps nothing
  float error2, error1, dot, own2;  // sums of (O - O^M)^2, |O - O^M|, O * O^M, (O^M)^2
};

/// From levels to masks: sums what each mask keeps and drops, each from its own side, and adds up the rows.
void finish_masks(const Layout& layout, int masks,
                  const LevelRow* rows,  // [heads, masks + 1, video]
                  const MaskEffects& effects, cudaStream_t stream);

/// Every block row's columns in the order of their level (equal levels by rising column), and how many are at most
/// of each level.
void sort_by_level(const Layout& layout, const NestedMasks& family,
                   std::uint16_t* columns,  // [heads, regions, regions]
                   std::int32_t* ends,      // [heads, regions, masks + 1]
                   cudaStream_t stream);

}  // namespace draft::gpu
