#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

using Reordering = GpuTest;

std::vector<std::uint16_t> random_bits(const Layout& layout) {
  std::mt19937 random(13);
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(layout.offset(layout.heads, 0)));
  for (std::uint16_t& element : bits) element = static_cast<std::uint16_t>(random());  // NaNs too: bits are copied
  return bits;
}

std::vector<std::uint16_t> run(const Layout& layout, const std::vector<std::uint16_t>& bits, bool inverse) {
  const DeviceBuffer<std::uint16_t> from{std::span(bits)};
  const Guarded<std::uint16_t> to(bits.size());
  const Stream stream;
  (inverse ? restore : reorder)(layout, from.data(), to.data(), stream.get());
  stream.wait();
  return to.read();
}

// Given random bits on every swept layout, claim: each row goes where the reference's Algorithm 1 puts it, text stays
// at the end, and Algorithm 2 restores every bit.
TEST_F(Reordering, FollowsTheReferencesOrderAndComesBack) {
  for (const Layout& layout : swept_layouts()) {
    const std::vector<std::uint16_t> bits = random_bits(layout);
    const std::vector<std::uint16_t> reordered = run(layout, bits, false);
    const Partition partition = partition_of(layout);
    std::size_t wrong = 0;
    for (int head = 0; head < layout.heads; ++head) {
      for (int p = 0; p < layout.tokens(); ++p) {
        const int token = p < layout.video() ? static_cast<int>(partition.order()[p]) : p;
        for (int c = 0; c < layout.head_dim; ++c) {
          wrong += reordered[static_cast<std::size_t>(layout.offset(head, p) + c)] !=
                   bits[static_cast<std::size_t>(layout.offset(head, token) + c)];
        }
      }
    }
    EXPECT_EQ(wrong, 0U) << to_string(layout);
    EXPECT_EQ(run(layout, reordered, true), bits) << to_string(layout);
  }
}

// Negative control: on a grid with several regions in a row the reordering is not the identity, so the check above can
// fail.
TEST_F(Reordering, MovesSomething) {
  const Layout layout{.heads = 1, .frames = 1, .height = 9, .width = 17, .text = 2};
  const std::vector<std::uint16_t> bits = random_bits(layout);
  EXPECT_NE(run(layout, bits, false), bits);
  EXPECT_NE(run(layout, bits, true), bits);
}

}  // namespace
}  // namespace draft::gpu
