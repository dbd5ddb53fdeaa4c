// Counts of kept blocks against the reference's, and the checks of arguments; needs no GPU.

#include "kernels/core/arguments.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/core/blas_library.hpp"
#include "kernels/kernels.hpp"
#include "reference/draft_mask.hpp"

namespace draft::gpu {
namespace {

TEST(Cuts, CountAsTheReferenceDoes) {
  for (const Index regions : {1, 2, 7, 96, 240, 990, 3960}) {
    for (int thousandth = 0; thousandth < 1000; ++thousandth) {
      const double sparsity = thousandth / 1000.0;
      EXPECT_EQ(rule_cut(Rule::logits, sparsity, regions).count, kept_count(sparsity, regions * regions));
      EXPECT_EQ(rule_cut(Rule::softmax, sparsity, regions).count, kept_count(sparsity, regions * regions));
      EXPECT_EQ(rule_cut(Rule::released, sparsity, regions).count, released_kept_count(sparsity, regions * regions));
      EXPECT_EQ(rule_cut(Rule::row, sparsity, regions).count, kept_count(sparsity, regions));
    }
  }
  EXPECT_EQ(rule_cut(Rule::logits, 1.0 - 1e-12, 7).count, kept_count(1.0 - 1e-12, 49));
  EXPECT_TRUE(rule_cut(Rule::row, 0.5, 9).by_row && rule_cut(Rule::released, 0.5, 9).all_ties);
  EXPECT_FALSE(rule_cut(Rule::softmax, 0.5, 9).by_row || rule_cut(Rule::softmax, 0.5, 9).all_ties);
}

TEST(Cuts, RefuseASparsityOutsideItsRange) {
  for (const double bad : {-0.1, 1.0, std::nan("")}) {
    EXPECT_THROW((void)rule_cut(Rule::row, bad, 4), std::invalid_argument);
  }
}

TEST(Pointers, AreRefusedByName) {
  alignas(16) const char memory[32] = {};
  EXPECT_NO_THROW(require_aligned("rows", memory));
  EXPECT_THROW(require_aligned("rows", memory + 8), std::invalid_argument);
  EXPECT_NO_THROW(require_aligned("rows", memory + 8, 8));
  EXPECT_THROW(require_aligned("rows", memory + 4, 8), std::invalid_argument);
  EXPECT_THROW(require_aligned("rows", nullptr), std::invalid_argument);
}

TEST(Elements, OfMoreThan16BitsAreRefusedByName) {
  EXPECT_NO_THROW(require_half("rows", Element::bfloat16));
  EXPECT_NO_THROW(require_half("rows", Element::float16));
  EXPECT_THROW(require_half("rows", Element::float32), std::invalid_argument);
}

// Given a machine with the CUDA Toolkit, claim: cuBLAS is found, and an error quotes cuBLAS's own message.
TEST(BlasLibrary, IsFoundWithoutAGpu) {
  const std::string words = blas_library().status_string(CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_NE(words.find("not supported"), std::string::npos) << words;
  try {
    check_blas(CUBLAS_STATUS_ALLOC_FAILED, "cublasCreate");
    FAIL() << "a failure passed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("cublasCreate: "), std::string::npos) << error.what();
  }
  EXPECT_NO_THROW(check_blas(CUBLAS_STATUS_SUCCESS, "cublasCreate"));
}

}  // namespace
}  // namespace draft::gpu
