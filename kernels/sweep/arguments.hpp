#pragma once
// Checks of what the sweeps are given.

#include "kernels/core/arguments.hpp"
#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {

/// Throws std::invalid_argument that names the field unless the layout is valid, the element is of 16 bits, head_dim is
/// 64 or 128, the scale is finite and positive and the tensors are there and aligned to 16 bytes. `with_v`: V is read
/// too.
void require_valid(const SweepCall& call, bool with_v);

/// Throws std::invalid_argument unless there are levels and 1 to 254 masks.
void require_valid(const NestedMasks& family);

}  // namespace draft::gpu
