#pragma once
// Checks of arguments that the launchers share.

#include "kernels/kernels.hpp"

namespace draft::gpu {

/// Throws std::invalid_argument that names the pointer if it is null or not aligned to 16 bytes.
void require_aligned(const char* name, const void* pointer);

}  // namespace draft::gpu
