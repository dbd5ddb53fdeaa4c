#pragma once
// Shared by the GPU tests: skipping without a device, poisoned and guarded outputs, inputs that are exact on the GPU
// and in the reference, and the layouts that every kernel is tested on.

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/core/cuda_check.hpp"
#include "kernels/core/guarded.hpp"
#include "kernels/kernels.hpp"
#include "reference/draft_mask.hpp"

namespace draft::gpu {

/// "" if there is a GPU, else the reason why not.
std::string why_no_device();

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_device(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

/// Makes gtest print a kernel parameter as its name instead of its bytes.
inline void PrintTo(const AttentionKernel& kernel, std::ostream* stream) { *stream << kernel.name; }

/// A GuardedBuffer whose read() fails the test if a guard was written to.
template <typename T>
class Guarded : public GuardedBuffer<T> {
 public:
  using GuardedBuffer<T>::GuardedBuffer;
  void expect_guards() const { EXPECT_EQ(this->guards_written(), 0U) << "guard bytes were written to"; }
  [[nodiscard]] std::vector<T> read() const {
    expect_guards();
    return GuardedBuffer<T>::read();
  }
};

/// [heads, tokens, head_dim] in an element type, and the same numbers in float64, one matrix a head.
struct Tensor {
  std::vector<std::uint16_t> bits;
  std::vector<Matrix> heads;
};
/// The number with these bits.
double decode(Element element, std::uint16_t bits);
/// The bits of `value`, rounded towards 0 for bf16 and to nearest for fp16.
std::uint16_t encode(Element element, float value);
Tensor random_tensor(const Layout& layout, Element element, std::uint32_t seed, double mean = 0.0);

Grid grid_of(const Layout& layout);
Partition partition_of(const Layout& layout);
/// A layout whose map is [regions, regions]: one region a frame.
Layout map_layout(int heads, int regions, int text = 0);

/// Layouts that tests go through: grids that regions divide and that they do not, 1 token, text of 0 to 129 tokens,
/// head_dim 64, 72 and 128, four region sizes.
std::vector<Layout> swept_layouts();
std::string to_string(const Layout& layout);

/// Unit roundoff of fp32, 2^-24: one rounding changes a number by at most this share.
inline constexpr double kRoundoff = std::numeric_limits<float>::epsilon() / 2.0;

/// The outputs of find_thresholds and write_lists for given scores.
struct Selected {
  std::vector<std::int32_t> status;    // [heads]
  std::vector<std::uint16_t> columns;  // [heads, blocks, blocks]
  std::vector<std::int32_t> counts;    // [heads, blocks]
  std::vector<std::uint16_t> order;    // [heads, blocks]
  std::vector<std::uint8_t> mask;      // [heads, regions, regions]
  bool operator==(const Selected&) const = default;
};
Selected select_on_gpu(const Layout& layout, Rule rule, double sparsity, const std::vector<float>& scores);

/// The reference's masks for one head's scores, which are taken as they are: no softmax is applied for any rule.
class ReferenceMasks {
 public:
  ReferenceMasks(int regions, const float* scores);  // [regions, regions]
  [[nodiscard]] BlockMask mask(Rule rule, double sparsity) const;

 private:
  Matrix scores_;
  Ranking by_head_, by_row_;
};

/// The number of entries of one head in which the two masks differ.
int differences(const BlockMask& wanted, const std::uint8_t* found);

}  // namespace draft::gpu
