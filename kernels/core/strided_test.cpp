// Which strides are taken and which are refused, and where a row then stands; needs no GPU. That kernels follow them:
// attend/strides_test.cpp.

#include "kernels/core/strided.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "kernels/attend/attention.hpp"

namespace draft::gpu {
namespace {

constexpr Layout kLayout{.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256, .head_dim = 128};

/// What is said of these strides, "" if they are taken.
std::string refusal(const Strides& strides, const Layout& layout = kLayout, bool output = false) {
  try {
    output ? require_output_strides("o", layout, strides) : require_strides("q", layout, strides);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(Strides, OfNoneGivenAreAContiguousTensors) {
  const Strides own = strides_of(kLayout, std::nullopt);
  EXPECT_EQ(own, (Strides{std::int64_t{126976} * 128, 128}));
  EXPECT_EQ(own.offset(23, 126975), kLayout.offset(23, 126975));
  const Strides given{128, 24 * 128};
  EXPECT_EQ(strides_of(kLayout, given), given);
  EXPECT_EQ(given.offset(3, 5), 3 * 128 + 5 * 24 * 128);
  EXPECT_EQ(given.token_bytes(), 24U * 256U);
}

TEST(Strides, ARowIsAsManyBytesFurther) {
  std::uint16_t memory[64] = {};
  const Strides strides{8, 24};
  EXPECT_EQ(row_of(memory, strides.token_bytes(), 2), memory + 48);
  const std::uint16_t* const constant = memory;
  EXPECT_EQ(row_of(constant, strides.token_bytes(), 1), constant + 24);
  // Beyond 2^32 bytes; nothing is read there.
  constexpr std::uintptr_t kStart = 4096;
  const char* const far = row_of(reinterpret_cast<const char*>(kStart), 0xfffffff0U, 1 << 30);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(far), kStart + (std::uintptr_t{0xfffffff0U} << 30));
}

TEST(Strides, AreRefusedByNameWithTheWantedAndTheFound) {
  EXPECT_EQ(refusal({128, 24 * 128}), "");
  EXPECT_EQ(refusal({128, 3 * 24 * 128}), "");
  EXPECT_EQ(refusal({std::int64_t{126976} * 136 + 8, 136}), "");
  EXPECT_EQ(refusal({128, 128}), "") << "rows that are read may be the same";
  EXPECT_EQ(refusal({120, 3072}),
            "q: wanted strides of a row's 128 elements at least, found 120 elements from head to head and 3072 from "
            "token to token");
  EXPECT_EQ(
      refusal({128, 64}),
      "q: wanted strides of a row's 128 elements at least, found 128 elements from head to head and 64 from token "
      "to token");
  for (const Strides& odd : {Strides{132, 3072}, Strides{128, 3076}}) {
    EXPECT_NE(refusal(odd).find("q: wanted strides that are multiples of 16 bytes (8 elements), found"),
              std::string::npos)
        << refusal(odd);
  }
  const Layout two{.heads = 2, .frames = 1, .height = 1, .width = 2, .head_dim = 64};
  EXPECT_EQ(refusal({64, (std::int64_t{1} << 31) - 8}, two), "");
  EXPECT_NE(refusal({64, std::int64_t{1} << 31}, two).find("below 2^32 bytes from token to token"), std::string::npos);
  EXPECT_EQ(refusal({(std::int64_t{1} << 39) - 8, 64}, two), "");
  EXPECT_NE(refusal({std::int64_t{1} << 39, 64}, two).find("below 2^40 bytes"), std::string::npos);
  // 126,976 tokens of 2^23 bytes are below 2^40, of 2^24 not.
  EXPECT_EQ(refusal({128, std::int64_t{1} << 22}), "");
  EXPECT_NE(refusal({128, std::int64_t{1} << 23}).find("over a head's tokens"), std::string::npos);
}

TEST(Strides, OfAnOutputMustKeepItsRowsApart) {
  EXPECT_EQ(refusal({128, 24 * 128}, kLayout, true), "");
  EXPECT_EQ(refusal(Strides::contiguous(kLayout), kLayout, true), "");
  for (const Strides& overlapping : {Strides{128, 128}, Strides{128, 23 * 128}, Strides{126975 * 128, 128}}) {
    EXPECT_NE(refusal(overlapping, kLayout, true).find("o: wanted strides by which no two rows overlap"),
              std::string::npos);
    EXPECT_EQ(refusal(overlapping), "");
  }
  Layout one = kLayout;
  one.heads = 1;
  EXPECT_EQ(refusal({128, 3072}, one, true), "") << "a single head's stride does not matter";
}

// Claim: a call's strides are checked with the call, and an error names the tensor.
TEST(Strides, OfACallAreCheckedWithIt) {
  alignas(16) char memory[16] = {};
  Attention call{.layout = kLayout, .element = Element::bfloat16, .scale = 1.0F};
  call.q = call.k = call.v = call.o = memory;
  call.lse = reinterpret_cast<float*>(memory);
  EXPECT_NO_THROW(require_valid(call));
  EXPECT_TRUE(call.contiguous());
  call.strides.v = Strides::contiguous(kLayout);
  EXPECT_TRUE(call.contiguous());
  call.strides.v = Strides{128, 24 * 128};
  EXPECT_FALSE(call.contiguous());
  EXPECT_NO_THROW(require_valid(call));
  std::optional<Strides> CallStrides::*const tensors[] = {&CallStrides::q, &CallStrides::k, &CallStrides::v,
                                                          &CallStrides::o};
  const char* const names[] = {"attention: q: ", "attention: k: ", "attention: v: ", "attention: o: "};
  for (int i = 0; i < 4; ++i) {
    Attention wrong = call;
    wrong.strides.*tensors[i] = Strides{0, 0};
    try {
      require_valid(wrong);
      FAIL() << names[i];
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(std::string(error.what()).rfind(names[i], 0), 0U) << error.what();
    }
  }
}

// Claim: a kernel of contiguous tensors alone says so before a launch; the others do not look at strides.
TEST(Strides, AreRefusedByBlasAlone) {
  Attention call;
  call.layout = kLayout;
  for (const AttentionKernel& kernel : attention_kernels()) {
    const std::string before = kernel.unsupported(call, 90);
    Attention strided = call;
    strided.strides.k = Strides{128, 24 * 128};
    EXPECT_EQ(kernel.unsupported(strided, 90), kernel.name == "blas" ? "wants contiguous tensors" : before);
  }
}

}  // namespace
}  // namespace draft::gpu
