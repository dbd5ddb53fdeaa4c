#include <cmath>

#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

using Pooling = GpuTest;

std::vector<float> pool_on_gpu(const Layout& layout, Element element, Pool kind,
                               const std::vector<std::uint16_t>& bits) {
  const DeviceBuffer<std::uint16_t> rows{std::span(bits)};
  const Guarded<float> pooled(static_cast<std::size_t>(layout.heads) * layout.regions() * layout.head_dim);
  const Stream stream;
  pool(layout, element, kind, rows.data(), pooled.data(), stream.get());
  stream.wait();
  return pooled.read();
}

/// How many numbers of one head differ from `wanted` by more than `tolerance`, or are NaN.
Index outside(const Matrix& wanted, const Matrix& tolerance, const float* found) {
  Index count = 0;
  for (Index i = 0; i < wanted.size(); ++i) {
    count += !(std::abs(static_cast<double>(found[i]) - wanted.data()[i]) <= tolerance.data()[i]);
  }
  return count;
}

/// A sum of n fp32 terms in any order has an error of at most (n - 1) roundings of the sum of magnitudes, and the
/// division adds one: n * 2^-24 * mean |x|, doubled to cover terms of second order. A maximum is exact.
Matrix tolerance_of(const Matrix& rows, const Partition& partition, Pool kind) {
  Matrix magnitude = draft::pool_regions(rows.cwiseAbs(), partition, Pool::average);
  for (Index r = 0; r < magnitude.rows(); ++r) {
    magnitude.row(r) *= kind == Pool::average ? 2.0 * kRoundoff * static_cast<double>(partition.size(r)) : 0.0;
  }
  return magnitude;
}

// Given random rows on every swept layout, claim: pooled rows are the reference's, for both kinds and elements.
TEST_F(Pooling, IsTheReferencesOnEveryLayout) {
  for (const Layout& layout : swept_layouts()) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      for (const double mean : {0.0, -6.0}) {  // -6: all numbers negative, so that a maximum started from 0 would fail
        const Tensor tensor = random_tensor(layout, element, 7, mean);
        for (const Pool kind : {Pool::average, Pool::maximum}) {
          const std::vector<float> found = pool_on_gpu(layout, element, kind, tensor.bits);
          for (int head = 0; head < layout.heads; ++head) {
            const Matrix& rows = tensor.heads[head];
            const Partition partition = partition_of(layout);
            EXPECT_EQ(outside(draft::pool_regions(rows, partition, kind), tolerance_of(rows, partition, kind),
                              found.data() + static_cast<std::size_t>(head) * layout.regions() * layout.head_dim),
                      0)
                << to_string(layout) << " head " << head;
          }
        }
      }
    }
  }
}

// Claim: pool_elements() gives pool()'s numbers, rounded to the nearest of the element type.
TEST_F(Pooling, ElementsAreTheRoundedPooledRows) {
  for (const Layout& layout : swept_layouts()) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      const Tensor tensor = random_tensor(layout, element, 7, 0.5);
      const DeviceBuffer<std::uint16_t> rows{std::span(tensor.bits)};
      const std::vector<float> wanted = pool_on_gpu(layout, element, Pool::average, tensor.bits);
      const Guarded<std::uint16_t> pooled(wanted.size());
      const Stream stream;
      pool_elements(layout, element, Pool::average, rows.data(), pooled.data(), stream.get());
      stream.wait();
      const std::vector<std::uint16_t> found = pooled.read();
      const double unit = element == Element::bfloat16 ? 0x1p-8 : 0x1p-11;  // half a unit in the last place of 1
      Index off = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        const double number = static_cast<double>(wanted[i]);
        off += !(std::abs(decode(element, found[i]) - number) <= unit * std::abs(number) + 0x1p-25);
      }
      EXPECT_EQ(off, 0) << to_string(layout);
    }
  }
}

// Claim: pool_both() gives pool()'s bits for both tensors.
TEST_F(Pooling, BothAreAsEachAlone) {
  for (const Layout& layout : swept_layouts()) {
    const std::size_t size = static_cast<std::size_t>(layout.heads) * layout.regions() * layout.head_dim;
    const Tensor q = random_tensor(layout, Element::bfloat16, 7), k = random_tensor(layout, Element::bfloat16, 8);
    for (const Pool kind : {Pool::average, Pool::maximum}) {
      const DeviceBuffer<std::uint16_t> q_rows{std::span(q.bits)}, k_rows{std::span(k.bits)};
      const Guarded<float> pooled_q(size), pooled_k(size);
      const Stream stream;
      pool_both(layout, Element::bfloat16, kind, q_rows.data(), k_rows.data(), pooled_q.data(), pooled_k.data(),
                stream.get());
      stream.wait();
      const std::vector<float> wanted_q = pool_on_gpu(layout, Element::bfloat16, kind, q.bits);
      const std::vector<float> wanted_k = pool_on_gpu(layout, Element::bfloat16, kind, k.bits);
      EXPECT_EQ(pooled_q.read(), wanted_q) << to_string(layout);
      EXPECT_EQ(pooled_k.read(), wanted_k) << to_string(layout);
      EXPECT_NE(wanted_q, wanted_k) << to_string(layout);  // else exchanged ones would pass
    }
  }
}

// Negative control: the mean over padded regions (the released code's, on a grid that does not divide) is outside.
TEST_F(Pooling, TheCheckRefusesMeansOverPadding) {
  const Layout layout{.heads = 1, .frames = 2, .height = 9, .width = 17, .text = 3};
  const Tensor tensor = random_tensor(layout, Element::bfloat16, 3);
  const Partition partition = partition_of(layout);
  Matrix padded = draft::pool_regions(tensor.heads[0], partition, Pool::average);
  for (Index r = 0; r < padded.rows(); ++r) padded.row(r) *= static_cast<double>(partition.size(r)) / 128.0;
  const std::vector<float> found = pool_on_gpu(layout, Element::bfloat16, Pool::average, tensor.bits);
  EXPECT_GT(outside(padded, tolerance_of(tensor.heads[0], partition, Pool::average), found.data()), 0);
}

TEST_F(Pooling, RunsAreBitIdentical) {
  const Layout layout{.heads = 3, .frames = 2, .height = 45, .width = 80, .text = 77};
  const Tensor tensor = random_tensor(layout, Element::bfloat16, 11);
  const std::vector<float> first = pool_on_gpu(layout, Element::bfloat16, Pool::average, tensor.bits);
  for (int run = 0; run < 20; ++run) {
    EXPECT_EQ(pool_on_gpu(layout, Element::bfloat16, Pool::average, tensor.bits), first);
  }
}

// Given one NaN, claim: its region's channel is NaN in both poolings and nothing else is.
TEST_F(Pooling, ANaNStaysInItsRegionAndChannel) {
  const Layout layout{.heads = 1, .frames = 1, .height = 16, .width = 32, .text = 1, .head_dim = 64};
  Tensor tensor = random_tensor(layout, Element::bfloat16, 5);
  tensor.bits[static_cast<std::size_t>((9 * 32 + 20) * 64 + 33)] = 0x7fc0;  // row 9, column 20: region 3
  for (const Pool kind : {Pool::average, Pool::maximum}) {
    const std::vector<float> found = pool_on_gpu(layout, Element::bfloat16, kind, tensor.bits);
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(std::isnan(found[i]), i == 3 * 64 + 33) << i;
  }
}

TEST_F(Pooling, RefusesPointersThatAreNotAligned) {
  const Layout layout;
  const DeviceBuffer<float> memory(4096);
  EXPECT_THROW(pool(layout, Element::float16, Pool::average, nullptr, memory.data(), nullptr), std::invalid_argument);
  EXPECT_THROW(pool(layout, Element::float16, Pool::average, memory.data(), memory.data() + 1, nullptr),
               std::invalid_argument);
  EXPECT_THROW(pool_elements(layout, Element::float16, Pool::average, memory.data(), nullptr, nullptr),
               std::invalid_argument);
}

}  // namespace
}  // namespace draft::gpu
