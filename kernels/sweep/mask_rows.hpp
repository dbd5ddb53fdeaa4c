#pragma once
// What the mask sweep records for each row and level, the sort before it and the sums after it.

#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {

/// One row at the end of a level. P is dense attention; P^M and O^M are those of the mask that keeps this level and all
/// lower ones. Level `masks`, the blocks that no mask keeps, has only the first two numbers.
struct LevelRow {
  double mass, square;              // sums of P and of P^2 over the level's blocks; text is in level 0
  double sharpness;                 // sum of (P^M)^2; 0 if the row keeps nothing
  float error2, error1, dot, own2;  // sums of (O - O^M)^2, |O - O^M|, O * O^M, (O^M)^2
};

/// From levels to masks: sums what each mask keeps over its levels and what it drops over the others, and sums over
/// rows.
void finish_masks(const Layout& layout, int masks,
                  const LevelRow* rows,  // [heads, masks + 1, video]
                  const MaskEffects& effects, cudaStream_t stream);

/// Sorts every block row's columns by level (equal levels by rising column). `ends`: how many columns have at most each
/// level.
void sort_by_level(const Layout& layout, const NestedMasks& family,
                   std::uint16_t* columns,  // [heads, regions, regions]
                   std::int32_t* ends,      // [heads, regions, masks + 1]
                   cudaStream_t stream);

}  // namespace draft::gpu
