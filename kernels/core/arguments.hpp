#pragma once
// Checks of arguments that the launchers share.

#include "kernels/core/layout.hpp"
#include "reference/choices.hpp"

namespace draft::gpu {

/// Throws std::invalid_argument that names the pointer if it is null or not aligned to `bytes`.
void require_aligned(const char* name, const void* pointer, std::size_t bytes = 16);

/// Throws std::invalid_argument that names what has the element unless that is bfloat16 or float16.
void require_half(const char* name, Element element);

/// Does this build hold code for sm_90a (DRAFT_CUDA_ARCHITECTURES)? And is it what the current device runs?
bool built_for_sm90a();
bool runs_sm90a();

}  // namespace draft::gpu
