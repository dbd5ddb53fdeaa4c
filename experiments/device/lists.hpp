#pragma once
// Kept-block lists on the device, and the kernels' layout of a grid.

#include <vector>

#include "experiments/input/masks.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/kernels.hpp"

namespace draft {

/// The layout of a call over regions of this size, whether the kernels can have it or not.
gpu::Layout layout_of(const Grid& grid, Index heads, Index head_dim, RegionSize region);
/// The layout of a call over regions of this size. Throws UsageError if the kernels cannot have it.
gpu::Layout gpu_layout(const Grid& grid, Index heads, Index head_dim, RegionSize region);

/// The lists of all heads of a layout.
class DeviceLists {
 public:
  /// Their content is undefined.
  explicit DeviceLists(const gpu::Layout& layout);
  /// Copies the lists of a layout and waits.
  DeviceLists(const gpu::Layout& layout, const HostLists& lists);

  [[nodiscard]] gpu::BlockLists view(std::uint8_t* mask = nullptr) const {
    return {columns_.data(), counts_.data(), order_.data(), mask};
  }
  /// Both wait for the device.
  [[nodiscard]] std::vector<std::int32_t> counts() const { return counts_.download(); }
  [[nodiscard]] HostLists download() const { return {columns_.download(), counts_.download(), order_.download()}; }

 private:
  gpu::DeviceBuffer<std::uint16_t> columns_;
  gpu::DeviceBuffer<std::int32_t> counts_;
  gpu::DeviceBuffer<std::uint16_t> order_;
};

}  // namespace draft
