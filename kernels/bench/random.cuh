#pragma once
// Random normal inputs made on the device, for the benchmarks.

#include <cuda_bf16.h>

#include <cstdint>

namespace draft::gpu {

__device__ inline std::uint32_t mixed(std::uint64_t state) {  // splitmix64's output function
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return static_cast<std::uint32_t>((state ^ (state >> 31)) >> 32);
}

/// Box and Muller's normal numbers, by position.
static __global__ void fill_normal(__nv_bfloat16* values, std::int64_t size, std::uint64_t seed) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += stride) {
    const auto state = seed * 0x100000000ULL + static_cast<std::uint64_t>(i) * 2;
    const float u = (static_cast<float>(mixed(state) >> 8) + 1.0F) * 0x1p-24F;
    const float v = static_cast<float>(mixed(state + 1) >> 8) * 0x1p-24F;
    values[i] = __float2bfloat16_rn(sqrtf(-2.0F * logf(u)) * cospif(2.0F * v));
  }
}

}  // namespace draft::gpu
