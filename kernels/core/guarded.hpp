#pragma once
// Device output buffers for tests and checks: they reveal elements that a kernel did not write and writes out of
// bounds.

#include <algorithm>
#include <array>

#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {

/// Before the kernel every byte is 0xff: NaN as a float, -1 as an integer, no valid block index. On both sides lie 256
/// guard bytes, also 0xff, which a kernel must not change.
template <typename T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t size) : size_(size), memory_(size * sizeof(T) + 2 * kGuard) { poison(); }
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.data() + kGuard); }
  void poison() { fill_bytes(memory_.data(), kPoison, memory_.bytes()); }
  /// Waits for the device.
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> values(size_);
    copy(values.data(), data(), size_ * sizeof(T));
    return values;
  }
  /// Guard bytes that changed. Waits for the device.
  [[nodiscard]] std::size_t guards_written() const {
    std::array<std::uint8_t, 2 * kGuard> guards{};
    copy(guards.data(), memory_.data(), kGuard);
    copy(guards.data() + kGuard, memory_.data() + memory_.bytes() - kGuard, kGuard);
    return static_cast<std::size_t>(
        std::count_if(guards.begin(), guards.end(), [](auto byte) { return byte != kPoison; }));
  }

 private:
  static void copy(void* to, const void* from, std::size_t bytes) {
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
  }
  static constexpr std::size_t kGuard = 256;
  static constexpr std::uint8_t kPoison = 0xff;
  std::size_t size_;
  DeviceBuffer<std::uint8_t> memory_;
};

}  // namespace draft::gpu
