#pragma once
// Shared by the sweeps' tests: a call's inputs and families of masks, for the GPU and for the reference.

#include <cuda_fp16.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/sweep/sweeps.hpp"
#include "kernels/testing/gpu_test.hpp"
#include "reference/bounds/mask_levels.hpp"

namespace draft::gpu {

/// Q, K, V of all heads on the device, and the same as reference problems.
struct SweepSetup {
  Layout layout;
  Element element;
  Tensor q, k, v;
  std::vector<Problem> problems;  // [heads]
  DeviceBuffer<std::uint16_t> device_q, device_k, device_v;

  SweepSetup(const Layout& the_layout, Element the_element, Tensor the_q, Tensor the_k, Tensor the_v, double scale)
      : layout(the_layout),
        element(the_element),
        q(std::move(the_q)),
        k(std::move(the_k)),
        v(std::move(the_v)),
        device_q(std::span<const std::uint16_t>(q.bits)),
        device_k(std::span<const std::uint16_t>(k.bits)),
        device_v(std::span<const std::uint16_t>(v.bits)) {
    for (std::size_t head = 0; head < q.heads.size(); ++head) {
      problems.push_back({grid_of(layout), q.heads[head], k.heads[head], v.heads[head], scale, "test"});
    }
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  [[nodiscard]] SweepCall call() const {
    return {layout, element, problems[0].scale, device_q.data(), device_k.data(), device_v.data()};
  }
};

/// Normal numbers. The mean of the logits, unscaled, is about -mean^2 head_dim.
inline SweepSetup random_setup(const Layout& layout, Element element, std::uint32_t seed, double mean = 0.0) {
  return {layout,
          element,
          random_tensor(layout, element, seed, mean),
          random_tensor(layout, element, seed + 1, -mean),
          random_tensor(layout, element, seed + 2),
          1.0 / std::sqrt(layout.head_dim)};
}

/// Sets the tensor's bits from the numbers of its heads, which must be exact in the element type.
inline void encode_exactly(Tensor& tensor, Element element) {
  tensor.bits.clear();
  for (const Matrix& head : tensor.heads) {
    for (const double number : head.reshaped<Eigen::RowMajor>()) {
      const auto value = static_cast<float>(number);
      tensor.bits.push_back(element == Element::float16
                                ? __half_raw(__float2half_rn(value)).x
                                : static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
      if (decode(element, tensor.bits.back()) != number)
        throw std::invalid_argument("test tensor: a number is not exact");
    }
  }
}

/// The layouts that the sweeps take, at most two heads each.
inline std::vector<Layout> sweep_layouts() {
  std::vector<Layout> layouts;
  for (Layout layout : swept_layouts()) {
    layout.heads = std::min(layout.heads, 2);
    if (layout.head_dim == 64 || layout.head_dim == 128) layouts.push_back(layout);
  }
  return layouts;
}

inline constexpr Element kSweptElements[] = {Element::bfloat16, Element::float16};
inline std::string name_of(const Layout& layout, Element element) {
  return to_string(layout) + (element == Element::bfloat16 ? ", bf16" : ", fp16");
}

/// A family of masks for each head over one partition; all heads have equally many masks.
struct TestFamily {
  std::string name;
  std::vector<MaskFamily> heads;
  [[nodiscard]] std::size_t masks() const { return heads[0].cuts.size(); }
};

/// Rankings by random scores, over the head, so that rows are uneven and some keep nothing at small cuts, or by row.
inline TestFamily random_family(const Layout& layout, std::string name, bool by_row, std::vector<double> shares) {
  const Partition partition = partition_of(layout);
  const Index regions = partition.regions(), blocks = by_row ? regions : regions * regions;
  TestFamily family{std::move(name), {}};
  std::mt19937 random(5);
  for (int head = 0; head < layout.heads; ++head) {
    Matrix scores(regions, regions);
    for (Index i = 0; i < scores.size(); ++i) {
      scores.data()[i] = static_cast<double>(i / regions % 4) * 400.0 + static_cast<double>(random() % 1000);
    }
    family.heads.push_back({0, rank_blocks(scores, by_row), {}});
    for (const double share : shares) {
      const auto cut = std::clamp<Index>(static_cast<Index>(std::ceil(share * static_cast<double>(blocks))), 1, blocks);
      std::vector<Index>& cuts = family.heads.back().cuts;
      if (cuts.empty() || cuts.back() < cut) cuts.push_back(cut);
    }
  }
  return family;
}

}  // namespace draft::gpu
