#pragma once
// Checks of arguments that all launchers use.

#include <string>

#include "kernels/core/layout.hpp"
#include "reference/choices.hpp"

namespace draft::gpu {

/// Throws std::invalid_argument that names the pointer if it is null or not aligned to `bytes`.
void require_aligned(const char* name, const void* pointer, std::size_t bytes = 16);

/// Throws std::invalid_argument that names what has the element unless that is bfloat16 or float16.
void require_half(const char* name, Element element);

/// Whether this build holds code for sm_90a (DRAFT_CUDA_ARCHITECTURES).
bool built_for_sm90a();
/// Whether it does and the current device runs that code.
bool runs_sm90a();
/// "", or why sm_90a's code cannot run on a GPU of this compute capability (90: 9.0).
std::string why_not_sm90a(int capability);

/// Multiprocessors of the current device.
int multiprocessors();

}  // namespace draft::gpu
