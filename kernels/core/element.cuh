#pragma once
// Converts eight 2-byte numbers, one 16-byte vector load, to floats.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "reference/choices.hpp"

namespace draft::gpu {

inline constexpr int kVector = 8;  // elements in 16 bytes

template <Element kElement>
__device__ inline void widen(const uint4& packed, float (&wide)[kVector]) {
  const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (kElement == Element::bfloat16) {  // a bfloat16 is the upper half of a float
      wide[2 * i] = __uint_as_float(words[i] << 16);
      wide[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
    } else {
      const __half2_raw raw{static_cast<unsigned short>(words[i]), static_cast<unsigned short>(words[i] >> 16)};
      const float2 pair = __half22float2(__half2(raw));
      wide[2 * i] = pair.x;
      wide[2 * i + 1] = pair.y;
    }
  }
}

}  // namespace draft::gpu
