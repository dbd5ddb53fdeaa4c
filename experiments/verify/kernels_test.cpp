// `verify` on a GPU: it passes right kernels, one's own too, and finds planted errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "experiments/verify/verify.hpp"
#include "harness/dump/synthetic.hpp"
#include "harness/gpu.hpp"
#include "harness/record/metric_table.hpp"
#include "harness/temporary_directory.hpp"
#include "kernels/attend/toy.hpp"
#include "kernels/core/cuda_check.hpp"

namespace draft {
namespace {

class Verifying : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
    require_gpu("verify_gpu_test");
    const SyntheticSpec spec{SyntheticKind::iid, {2, 9, 33, 21}, 2, 1, 64, 7};
    write_synthetic_dump(directory_ / "iid.h5", spec, Element::bfloat16, "verify_gpu_test");
    options_.dump = directory_ / "iid.h5";
    options_.out = directory_ / "verify.jsonl";
    options_.quiet = true;
  }

  [[nodiscard]] std::vector<Json> records() const { return read_records(options_.out); }

  TemporaryDirectory directory_;
  VerifyOptions options_;
};

gpu::AttentionKernel kernel_of(const std::string& name) {
  for (const gpu::AttentionKernel& kernel : gpu::attention_kernels()) {
    if (kernel.name == name) return kernel;
  }
  throw std::invalid_argument("no kernel " + name);
}

TEST_F(Verifying, EveryKernelOfTheTablePasses) {
  EXPECT_EQ(verify(options_, gpu::attention_kernels()), kExitFine);
  EXPECT_GE(records().size(), 2U * 18U * gpu::attention_kernels().size());
  for (const Json& record : records()) {
    for (const auto& [name, value] : record["metrics"].items()) EXPECT_NE(find_metric(name), nullptr) << name;
  }
}

// Claim: one's own kernel needs no more than a row of the table.
TEST_F(Verifying, AnOwnKernelIsRegisteredByOneRow) {
  EXPECT_EQ(verify(options_, {gpu::toy_kernel()}), kExitFine);
  int ok = 0, skipped = 0, without_remainder = 0;
  for (const Json& record : records()) {
    EXPECT_EQ(record["config"]["kernel"], "toy");
    ok += record["status"] == "ok" ? 1 : 0;
    skipped += record["status"] == "skipped" && record["reason"] == "wants token order" ? 1 : 0;
    without_remainder += record["status"] == "skipped" && record["reason"] == "has no pooled remainder" ? 1 : 0;
  }
  EXPECT_EQ(ok, 2 * 18);
  EXPECT_EQ(skipped, 2 * 18);
  EXPECT_EQ(without_remainder, 2 * 2 * 15);  // heads, orders, all cases but the three dense ones
}

/// The toy with a mistake made after it; the mistake sees what the kernel was given.
template <void (*kMistake)(const gpu::Attention& call)>
gpu::AttentionKernel mistaken() {
  gpu::AttentionKernel kernel = gpu::toy_kernel();
  kernel.name = "mistaken";
  kernel.launch = [](const gpu::Attention& call, const gpu::Resources& resources, cudaStream_t stream) {
    gpu::toy_kernel().launch(call, resources, stream);
    gpu::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    kMistake(call);
    gpu::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  };
  return kernel;
}

void scale_row_40(const gpu::Attention& call) {
  const Index dim = call.layout.head_dim;
  std::vector<std::uint16_t> row(static_cast<std::size_t>(dim));
  auto* o = static_cast<std::uint16_t*>(call.o) + 40 * dim;
  gpu::check(cudaMemcpy(row.data(), o, row.size() * 2, cudaMemcpyDeviceToHost), "cudaMemcpy");
  for (std::uint16_t& bits : row) bits = to_bfloat16(1.02 * from_bfloat16(bits));
  gpu::copy_to_device(o, std::span<const std::uint16_t>(row));
}

void write_behind_lse(const gpu::Attention& call) {
  const float number = 1.0F;
  gpu::copy_to_device(call.lse + call.layout.heads * call.layout.tokens(), std::span(&number, 1));
}

void leave_out_a_number(const gpu::Attention& call) {
  const std::uint16_t poison = 0xffff;
  gpu::copy_to_device(static_cast<std::uint16_t*>(call.o) + call.layout.offset(1, 100) + 5, std::span(&poison, 1));
}

TEST_F(Verifying, ARowScaledBy2PercentIsFound) {
  EXPECT_EQ(verify(options_, {mistaken<scale_row_40>()}), kExitCheckFailed);
}

TEST_F(Verifying, AWriteBesideTheOutputIsFound) {
  EXPECT_EQ(verify(options_, {mistaken<write_behind_lse>()}), kExitCheckFailed);
  EXPECT_NE(records()[0].value("reason", "").find("4 bytes beside"), std::string::npos) << records()[0];
}

TEST_F(Verifying, AnUnwrittenNumberIsFound) {
  EXPECT_EQ(verify(options_, {mistaken<leave_out_a_number>()}), kExitCheckFailed);
}

// Given a kernel that attends to one wrong block in one block row of one head, claim: found, and the row is named.
TEST_F(Verifying, OneWrongBlockIndexIsFound) {
  gpu::AttentionKernel kernel = gpu::toy_kernel();
  kernel.launch = [](const gpu::Attention& call, const gpu::Resources& resources, cudaStream_t stream) {
    if (call.dense()) return gpu::toy_kernel().launch(call, resources, stream);
    const int blocks = call.layout.blocks();
    std::vector<std::uint16_t> columns(static_cast<std::size_t>(call.layout.heads * blocks * blocks));
    std::vector<std::int32_t> counts(static_cast<std::size_t>(call.layout.heads * blocks));
    gpu::check(cudaMemcpy(columns.data(), call.lists.columns, columns.size() * 2, cudaMemcpyDeviceToHost),
               "cudaMemcpy");
    gpu::check(cudaMemcpy(counts.data(), call.lists.counts, counts.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
    for (int row = 0; row < call.layout.regions(); ++row) {  // of head 0
      const int count = counts[static_cast<std::size_t>(row)];
      std::uint16_t* own = columns.data() + row * blocks;
      if (count == blocks || count <= call.layout.text_blocks()) continue;
      std::uint16_t left_out = 0;
      while (std::find(own, own + count, left_out) != own + count) ++left_out;
      own[0] = left_out;
      break;
    }
    const gpu::DeviceBuffer<std::uint16_t> wrong{std::span<const std::uint16_t>(columns)};
    gpu::Attention other = call;
    other.lists.columns = wrong.data();
    gpu::toy_kernel().launch(other, resources, stream);
    gpu::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  };
  options_.regions = {{8, 16}};
  options_.sparsities = {0.5};
  EXPECT_EQ(verify(options_, {kernel}), kExitCheckFailed);
  bool named = false;
  for (const Json& record : records()) {
    if (record["status"] != "failed") continue;
    EXPECT_EQ(record["input"]["head"], 0);
    named = true;
  }
  EXPECT_TRUE(named);
}

TEST_F(Verifying, ComparesWithABaseline) {
  ASSERT_EQ(verify(options_, {kernel_of("mma")}), kExitFine);
  VerifyOptions again = options_;
  again.out = directory_ / "again.jsonl";
  again.baseline = options_.out;
  EXPECT_EQ(verify(again, {kernel_of("mma")}), kExitFine);
  std::vector<Json> better = records();  // an earlier run that was ten times as exact
  std::ofstream file(directory_ / "better.jsonl");
  for (Json& record : better) {
    if (record["status"] == "ok")
      record["metrics"]["kernel_rel_l2"] = 0.1 * record["metrics"]["kernel_rel_l2"].get<double>();
    file << record.dump() << '\n';
  }
  file.close();
  again.baseline = directory_ / "better.jsonl";
  again.out = "";
  EXPECT_EQ(verify(again, {kernel_of("mma")}), kExitCheckFailed);
  again.baseline = directory_ / "none.jsonl";
  EXPECT_THROW(verify(again, {kernel_of("mma")}), UsageError);
}

TEST_F(Verifying, RefusesAnUnknownKernel) {
  options_.kernels = {"mma", "fastest"};
  try {
    verify(options_, gpu::attention_kernels());
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("found 'fastest'"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace draft
