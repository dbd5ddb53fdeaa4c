// The layouts of 8-bit operands, without a GPU. What quantise() writes: quantise_test.cpp.
#include "kernels/attend/wgmma_8bit/operands.hpp"

#include <gtest/gtest.h>

#include <set>

#include "kernels/attend/wgmma_8bit/kernel.hpp"

namespace draft::gpu {
namespace {

// Claim: lane l of a quad holds columns 8 n + 2 l and 8 n + 2 l + 1 of a product Q K^T (wgmma.cuh); as a left operand
// of 8-bit numbers it holds, of every 32 columns, 4 l to 4 l + 3 and 16 + 4 l to 16 + 4 l + 3. With V's rows in this
// order each weight meets its own key.
TEST(EightBitOperands, PlacesAreWhereTheWeightsStand) {
  std::set<int> seen;
  for (int k = 0; k < kTileSide / 32; ++k) {
    for (int lane = 0; lane < 4; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const int place = 32 * k + i / 4 * 16 + 4 * lane + i % 4;  // byte i of the lane's words for 32 places
        const int n = 4 * k + i / 2;                               // the product's columns that the lane packs there
        EXPECT_EQ(key_at_place(place), 8 * n + 2 * lane + i % 2);
        seen.insert(key_at_place(place));
      }
    }
  }
  EXPECT_EQ(seen.size(), 128U);
}

TEST(EightBitOperands, TakeThreeBytesANumberAndTheRowsTerms) {
  Attention call;
  call.layout = {.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
  const std::size_t tiles = 24U * 992U;
  EXPECT_GE(eight_bit_bytes(call), tiles * (kQueryBytes + 2 * kOperandBytes));
  EXPECT_LE(eight_bit_bytes(call), tiles * (kQueryBytes + 2 * kOperandBytes + 4) + 24 * sizeof(HeadScales) + 4096);
  EXPECT_EQ(eight_bit_bytes(call) % 16, 0U);
  std::uint8_t* const memory = nullptr;
  const EightBitOperands operands = place_operands(call, memory);
  EXPECT_EQ(operands.key_tiles, 992);
  for (const void* part : {static_cast<const void*>(operands.k), static_cast<const void*>(operands.v)}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(part) % 128, 0U);
  }
}

TEST(Attend8Bit, SaysWhatItCannotDo) {
  Attention call;
  call.layout = {.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
  const std::string reason = attend_8bit_unsupported(call, 90);
  if (reason.find("no code for sm_90a") != std::string::npos) GTEST_SKIP() << reason;
  EXPECT_EQ(reason, "");
  EXPECT_EQ(attend_8bit_unsupported(call, 80), "needs compute capability 9.0, found 8.0");
  EXPECT_EQ(attend_8bit_unsupported(call, 100), "needs compute capability 9.0, found 10.0");
  call.layout.region_height = call.layout.region_width = 8;
  EXPECT_EQ(attend_8bit_unsupported(call, 90), "");
  call.region_order = true;
  EXPECT_EQ(attend_8bit_unsupported(call, 90), "");
  call.layout.region_height = 17;
  EXPECT_EQ(attend_8bit_unsupported(call, 90), "regions may have 128 tokens at most, found 17 x 8");
  call.layout.head_dim = 64;
  EXPECT_EQ(attend_8bit_unsupported(call, 90), "head_dim must be 128, found 64");
}

}  // namespace
}  // namespace draft::gpu
