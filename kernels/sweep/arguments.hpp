#pragma once
// Checks of the sweeps' arguments.

#include "kernels/core/arguments.hpp"
#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {

/// Throws std::invalid_argument that names the field unless the layout is valid, the element is of 16 bits, head_dim is
/// 64 or 128, the scale is finite and positive, and the tensors are not null and aligned to 16 bytes. `with_v`: V is
/// needed too.
void require_valid(const SweepCall& call, bool with_v);

/// Throws std::invalid_argument unless levels are not null and there are 1 to 254 masks.
void require_valid(const NestedMasks& family);

}  // namespace draft::gpu
