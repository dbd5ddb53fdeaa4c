#pragma once
// Between natural and base-2 logarithms. In fp32: static_cast<float>.

namespace draft::gpu {

inline constexpr double kLn2 = 0.69314718055994530942;
inline constexpr double kLog2E = 1.44269504088896340736;

}  // namespace draft::gpu
