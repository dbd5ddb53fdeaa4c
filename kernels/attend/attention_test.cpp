// Attention kernels against the float64 reference under the same mask and the same rounded inputs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "kernels/attend/wgmma/kernel.hpp"
#include "kernels/testing/gpu_test.hpp"
#include "reference/parallel.hpp"
#include "reference/rounding/kernel_error.hpp"

namespace draft::gpu {
namespace {

/// Every test runs for every kernel of the table.
class Attending : public GpuTest, public ::testing::WithParamInterface<AttentionKernel> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) blas_ = std::make_unique<Blas>();
  }
  /// Whether the kernel can do calls of this shape here.
  [[nodiscard]] static bool supports(const Layout& layout, Element element, bool region_order, bool remainder = false) {
    Attention call;
    call.layout = layout;
    call.element = element;
    call.region_order = region_order;
    if (remainder) call.pooled_k = call.pooled_v = &call;
    return GetParam().unsupported(call, device_capability()).empty();
  }
  [[nodiscard]] const Blas& blas() const { return *blas_; }
  [[nodiscard]] static Arithmetic arithmetic() {
    return GetParam().eight_bit() ? Arithmetic::eight_bit : Arithmetic::element;
  }
  /// Two frames of 4 regions with text, of head_dim 64 if the kernel can do that, else of 128.
  [[nodiscard]] static Layout small_layout(Element element, bool remainder = false) {
    Layout layout{.heads = 1, .frames = 2, .height = 16, .width = 32, .text = 5, .head_dim = 64};
    if (!supports(layout, element, false, remainder)) layout.head_dim = 128;
    return layout;
  }

 private:
  std::unique_ptr<Blas> blas_;
};

/// One call's inputs and its masks.
struct TestCall {
  Layout layout;
  Element element;
  Tensor q, k, v;
  Selected lists;                // empty: dense
  std::vector<BlockMask> masks;  // [heads]
  float scale;
  std::vector<std::uint16_t> pooled_k, pooled_v;  // [heads, regions, head_dim]; empty: no remainder
  std::vector<PooledRows> pooled;                 // [heads], the same numbers
};

Problem problem_of(const TestCall& call, std::size_t head) {
  return {grid_of(call.layout), call.q.heads[head], call.k.heads[head], call.v.heads[head], call.scale, "test"};
}

/// Gives the call a remainder: its pooled rows, rounded to the element type.
void add_remainder(TestCall& call) {
  const auto round = [&](Matrix& rows, std::vector<std::uint16_t>& bits) {
    for (Index i = 0; i < rows.size(); ++i) {
      bits.push_back(encode(call.element, static_cast<float>(rows.data()[i])));
      rows.data()[i] = decode(call.element, bits.back());
    }
  };
  for (std::size_t head = 0; head < call.masks.size(); ++head) {
    PooledRows& rows = call.pooled.emplace_back(pooled_rows(problem_of(call, head), partition_of(call.layout)));
    round(rows.k, call.pooled_k);
    round(rows.v, call.pooled_v);
  }
}

/// Gives the call the lists and masks of these scores.
void keep(TestCall& call, Rule rule, double sparsity, const std::vector<float>& scores) {
  const Layout& layout = call.layout;
  const int regions = layout.regions();
  call.lists = select_on_gpu(layout, rule, sparsity, scores);
  for (int head = 0; head < layout.heads; ++head) {
    for (int row = 0; row < regions; ++row) {
      for (int column = 0; column < regions; ++column) {
        const auto at = static_cast<std::size_t>(layout.map_offset(head) + row * regions + column);
        call.masks[static_cast<std::size_t>(head)].set(row, column, call.lists.mask[at] != 0);
      }
    }
  }
}

TestCall make_call(const Layout& layout, Element element, bool sparse, std::uint32_t seed, double mean = 0.0) {
  TestCall call{layout,
                element,
                random_tensor(layout, element, seed, mean),
                random_tensor(layout, element, seed + 1, -mean),
                random_tensor(layout, element, seed + 2),
                {},
                {},
                static_cast<float>(1.0 / std::sqrt(layout.head_dim)),
                {},
                {},
                {}};
  const int regions = layout.regions();
  for (int head = 0; head < layout.heads; ++head) call.masks.emplace_back(regions, true);
  if (!sparse) return call;
  std::mt19937 random(seed);
  std::vector<float> scores(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  // The mean score differs from row to row, so that the mask has long, short and empty rows.
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = static_cast<float>(i / static_cast<std::size_t>(regions) % 4) * 2.0F + static_cast<float>(random() % 9);
  }
  keep(call, Rule::logits, 0.7, scores);
  return call;
}

struct Result {
  std::vector<std::uint16_t> o;
  std::vector<float> lse;
  bool operator==(const Result&) const = default;
};

/// A call's tensors on the device.
class DeviceCall {
 public:
  DeviceCall(const TestCall& setup, bool region_order) : o_(setup.q.bits.size()), lse_(rows(setup.layout)) {
    for (const Tensor* tensor : {&setup.q, &setup.k, &setup.v}) {
      inputs_.emplace_back(std::span(tensor->bits));
      if (!region_order) continue;
      DeviceBuffer<std::uint16_t> reordered(tensor->bits.size());
      reorder(setup.layout, inputs_.back().data(), reordered.data(), stream_.get());
      stream_.wait();
      inputs_.back() = std::move(reordered);
    }
    columns_ = DeviceBuffer<std::uint16_t>{std::span(setup.lists.columns)};
    order_ = DeviceBuffer<std::uint16_t>{std::span(setup.lists.order)};
    counts_ = DeviceBuffer<std::int32_t>{std::span(setup.lists.counts)};
    const bool sparse = !setup.lists.counts.empty();
    call_ = {.layout = setup.layout,
             .element = setup.element,
             .scale = setup.scale,
             .region_order = region_order,
             .q = inputs_[0].data(),
             .k = inputs_[1].data(),
             .v = inputs_[2].data(),
             .o = o_.data(),
             .lse = lse_.data(),
             .lists = sparse ? BlockLists{columns_.data(), counts_.data(), order_.data(), nullptr} : BlockLists{}};
    if (setup.pooled.empty()) return;
    pooled_k_ = DeviceBuffer<std::uint16_t>{std::span(setup.pooled_k)};
    pooled_v_ = DeviceBuffer<std::uint16_t>{std::span(setup.pooled_v)};
    call_.pooled_k = pooled_k_.data();
    call_.pooled_v = pooled_v_.data();
  }
  [[nodiscard]] Result run(const AttentionKernel& kernel, const Blas& blas) {
    o_.poison();
    lse_.poison();
    const Guarded<std::uint8_t> workspace(kernel.workspace(call_));
    kernel.launch(call_, {blas, workspace.data()}, stream_.get());
    stream_.wait();
    workspace.expect_guards();
    scratch_ = workspace.read();
    return {o_.read(), lse_.read()};
  }
  /// Integer `index` of the workspace after the last run.
  [[nodiscard]] int scratch(std::size_t index) const {
    int value = 0;
    std::memcpy(&value, scratch_.data() + index * sizeof value, sizeof value);
    return value;
  }

 private:
  static std::size_t rows(const Layout& layout) {
    return static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.tokens());
  }
  Stream stream_;
  std::vector<DeviceBuffer<std::uint16_t>> inputs_;
  DeviceBuffer<std::uint16_t> columns_, order_, pooled_k_, pooled_v_;
  DeviceBuffer<std::int32_t> counts_;
  Guarded<std::uint16_t> o_;
  Guarded<float> lse_;
  Attention call_;
  std::vector<std::uint8_t> scratch_;
};

Result run(const AttentionKernel& kernel, const Blas& blas, const TestCall& setup, bool region_order) {
  return DeviceCall(setup, region_order).run(kernel, blas);
}

/// The reference's output for every block row of every head.
using Truths = std::vector<std::vector<RowsTruth>>;  // [heads][blocks]

Truths truths_of(const TestCall& setup, Arithmetic arithmetic) {
  const Layout& layout = setup.layout;
  Truths truths(static_cast<std::size_t>(layout.heads));
  for (std::size_t head = 0; head < truths.size(); ++head) {
    const KernelTruth truth(problem_of(setup, head), {layout.region_height, layout.region_width},
                            setup.element == Element::bfloat16 ? kBfloat16Format : kFloat16Format, arithmetic);
    truths[head].resize(static_cast<std::size_t>(truth.blocks()));
    parallel_for(truth.blocks(), 0, [&] {
      return [&](Index block) {
        truths[head][static_cast<std::size_t>(block)] =
            truth.rows(setup.masks[head], block, setup.pooled.empty() ? nullptr : &setup.pooled[head]);
      };
    });
  }
  return truths;
}

/// Each head's errors: what all rows together may be off by holds for one head.
struct Errors {
  std::vector<KernelError> heads;
  [[nodiscard]] bool fine() const {
    return std::ranges::all_of(heads, [](const KernelError& error) { return error.fine(); });
  }
};

Errors judge(const TestCall& setup, const Truths& truths, const Result& found, bool region_order) {
  const Layout& layout = setup.layout;
  Errors errors;
  for (int head = 0; head < layout.heads; ++head) {
    KernelError& error = errors.heads.emplace_back();
    const auto& blocks = truths[static_cast<std::size_t>(head)];
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      const RowsTruth& truth = blocks[block];
      Matrix o(truth.o.rows(), truth.o.cols());
      Vector lse(truth.o.rows());
      for (Index r = 0; r < o.rows(); ++r) {
        const int token = static_cast<int>(truth.tokens[static_cast<std::size_t>(r)]);
        const int place = region_order ? layout.position_of(token) : token;
        const auto first = static_cast<std::size_t>(layout.offset(head, place));
        for (Index d = 0; d < o.cols(); ++d)
          o(r, d) = decode(setup.element, found.o[first + static_cast<std::size_t>(d)]);
        lse[r] = static_cast<double>(found.lse[static_cast<std::size_t>(head * layout.tokens() + place)]);
      }
      error.add(truth, static_cast<Index>(block), o, lse);
    }
  }
  return errors;
}

std::string to_string(const Errors& errors) {
  std::string text;
  for (std::size_t head = 0; head < errors.heads.size(); ++head) {
    const KernelError& error = errors.heads[head];
    if (error.fine() && !(head + 1 == errors.heads.size() && text.empty())) continue;
    text += "head " + std::to_string(head) + ": element " + std::to_string(error.element_over_bound) + ", row " +
            std::to_string(error.row_over_tolerance) + ", lse " + std::to_string(error.lse_over_bound) + ", all rows " +
            std::to_string(error.total_over_expected()) + " of what is allowed; worst block " +
            std::to_string(error.worst_block) + ", relative error " + std::to_string(error.rel_l2().value_or(0.0)) +
            "; ";
  }
  return text;
}

// Claim: dense and block-sparse attention agree with the reference on ragged grids, with text, with rows that keep
// nothing, for regions of 1 to 4,096 tokens, both element types and both token orders.
TEST_P(Attending, IsTheReferencesOnEveryLayout) {
  int calls = 0;
  for (const Layout& layout : swept_layouts()) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      for (const bool sparse : {false, true}) {
        if (!supports(layout, element, false) && !supports(layout, element, true)) continue;
        const TestCall setup = make_call(layout, element, sparse, 3);
        const Truths truths = truths_of(setup, arithmetic());
        for (const bool region_order : {false, true}) {
          if (!supports(layout, element, region_order)) continue;
          ++calls;
          const Errors error = judge(setup, truths, run(GetParam(), blas(), setup, region_order), region_order);
          EXPECT_TRUE(error.fine()) << to_string(error) << "; " << to_string(layout)
                                    << (sparse ? ", sparse" : ", dense") << (region_order ? ", region order" : "")
                                    << (element == Element::bfloat16 ? ", bf16" : ", fp16");
        }
      }
    }
  }
  RecordProperty("calls", calls);
  EXPECT_GE(calls, 8);
}

// Claim: with a pooled remainder too; a dense call drops nothing, so that there it changes nothing.
TEST_P(Attending, TheRemainderIsTheReferencesOnEveryLayout) {
  int calls = 0;
  for (const Layout& layout : swept_layouts()) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      for (const bool sparse : {false, true}) {
        if (!supports(layout, element, false, true) && !supports(layout, element, true, true)) continue;
        TestCall setup = make_call(layout, element, sparse, 3, 0.2);
        add_remainder(setup);
        const Truths truths = truths_of(setup, arithmetic());
        for (const bool region_order : {false, true}) {
          if (!supports(layout, element, region_order, true)) continue;
          ++calls;
          const Errors error = judge(setup, truths, run(GetParam(), blas(), setup, region_order), region_order);
          EXPECT_TRUE(error.fine()) << to_string(error) << "; " << to_string(layout)
                                    << (sparse ? ", sparse" : ", dense") << (region_order ? ", region order" : "")
                                    << (element == Element::bfloat16 ? ", bf16" : ", fp16");
        }
      }
    }
  }
  if (calls == 0) GTEST_SKIP() << "has no remainder";
  RecordProperty("calls", calls);
  EXPECT_GE(calls, 8);
}

// Given a remainder with weights in all of a row's blocks, claim: the check sees one that is left out, one whose blocks
// have the weight of a single token, and one that has kept blocks in it.
TEST_P(Attending, TheRemaindersCheckCanFail) {
  const Layout layout = small_layout(Element::float16, true);
  if (!supports(layout, Element::float16, false, true)) GTEST_SKIP() << "has no remainder";
  TestCall setup = make_call(layout, Element::float16, true, 9);
  const Result without = run(GetParam(), blas(), setup, false);
  add_remainder(setup);
  const Truths truths = truths_of(setup, arithmetic());
  const Result with = run(GetParam(), blas(), setup, false);
  ASSERT_TRUE(judge(setup, truths, with, false).fine());
  EXPECT_FALSE(judge(setup, truths, without, false).fine());
  TestCall other = setup;
  other.masks[0] = BlockMask(layout.regions(), false);  // the truth of rows that drop everything
  EXPECT_FALSE(judge(setup, truths_of(other, arithmetic()), with, false).fine());
}

constexpr Layout kStronglyNegative{.heads = 2, .frames = 2, .height = 9, .width = 17, .text = 77, .head_dim = 128};
// Given logits of about -head_dim * 9 * scale = -100 everywhere, claim: padding rows get no weight. Their logit is 0,
// so that a kernel which forgets to mask them would give them nearly all of it.
TEST_P(Attending, PaddingHasNoWeightWhereAllLogitsAreStronglyNegative) {
  if (!supports(kStronglyNegative, Element::bfloat16, false)) GTEST_SKIP() << "unsupported here";
  const TestCall setup = make_call(kStronglyNegative, Element::bfloat16, true, 5, 3.0);
  const Errors error = judge(setup, truths_of(setup, arithmetic()), run(GetParam(), blas(), setup, false), false);
  EXPECT_TRUE(error.fine()) << to_string(error);
}

/// A dense call in which the logits of region b's keys have mean levels[b], in natural units; text keys have mean 0.
TestCall make_levels(const Layout& layout, Element element, const std::vector<double>& levels, std::uint32_t seed) {
  TestCall call = make_call(layout, element, false, seed, 1.0);
  const Tensor noise = random_tensor(layout, element, seed + 3);
  for (int token = 0; token < layout.tokens(); ++token) {
    const int block = layout.block_of(token);
    const double level = block < layout.regions() ? levels.at(static_cast<std::size_t>(block)) : 0.0;
    for (int d = 0; d < layout.head_dim; ++d) {
      const auto at = static_cast<std::size_t>(layout.offset(0, token)) + static_cast<std::size_t>(d);
      const double value = level / (layout.head_dim * static_cast<double>(call.scale)) + 0.1 * noise.heads[0](token, d);
      call.k.bits[at] = encode(element, static_cast<float>(value));
      call.k.heads[0](token, d) = decode(element, call.k.bits[at]);
    }
  }
  return call;
}

constexpr Layout kEightRegions{.heads = 1, .frames = 2, .height = 16, .width = 32, .text = 5, .head_dim = 128};
/// Rises from one block to the next that a running maximum may ignore, rises that it must follow, and jumps up and down
/// by more than bf16's and fp32's exponents hold (89 in natural units).
const std::vector<std::vector<double>> kRisingLevels = {{0, 5, 10, 15, 20, 25, 30, 35},
                                                        {0, 20, -30, 60, 0, 40, 80, 70},
                                                        {-90, 40, 41, -200, 0, 0, 40, 39},
                                                        {0, 300, -300, 290, 0, 299, 301, -5},
                                                        {-400, 10, 200, 0, 0, 0, 0, 190}};
// Claim: logits may rise from block to block by any amount.
TEST_P(Attending, LogitsMayRiseFromBlockToBlock) {
  for (const int head_dim : {64, 128}) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      Layout layout = kEightRegions;
      layout.head_dim = head_dim;
      if (!supports(layout, element, false)) continue;
      for (const std::vector<double>& levels : kRisingLevels) {
        const TestCall setup = make_levels(layout, element, levels, 17);
        const Errors error = judge(setup, truths_of(setup, arithmetic()), run(GetParam(), blas(), setup, false), false);
        EXPECT_TRUE(error.fine()) << to_string(error) << "; head_dim " << head_dim << ", levels from " << levels[0]
                                  << ", " << levels[1] << (element == Element::bfloat16 ? ", bf16" : ", fp16");
      }
    }
  }
}

// Given rows that keep one block alone and a dropped block whose logits are higher or lower by any amount, claim: the
// remainder has its weight, also where exponents overflow on the way.
TEST_P(Attending, TheRemaindersLogitsMayRise) {
  int calls = 0;
  for (const int head_dim : {64, 128}) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      Layout layout = kEightRegions;
      layout.head_dim = head_dim;
      if (!supports(layout, element, false, true)) continue;
      ++calls;
      for (const std::vector<double>& levels : kRisingLevels) {
        TestCall setup = make_levels(layout, element, levels, 17);
        std::vector<float> scores(static_cast<std::size_t>(layout.map_offset(1)));
        for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = i % 8 == 0 ? 1.0F : 0.0F;  // column 0
        keep(setup, Rule::row, 0.9, scores);
        add_remainder(setup);
        const Errors error = judge(setup, truths_of(setup, arithmetic()), run(GetParam(), blas(), setup, false), false);
        EXPECT_TRUE(error.fine()) << to_string(error) << "; head_dim " << head_dim << ", levels from " << levels[0]
                                  << ", " << levels[1] << (element == Element::bfloat16 ? ", bf16" : ", fp16");
      }
    }
  }
  if (calls == 0) GTEST_SKIP() << "has no remainder";
}

class AttendWgmma : public GpuTest {};
// Claim: the second bf16 launch recomputes the block rows that overflowed in the first: all of them if logits rise by
// 300 at once, none if they rise by 30 three times.
TEST_F(AttendWgmma, DoesBlockRowsThatOverflowAgain) {
  const auto recomputed = [](const std::vector<double>& levels) {
    const TestCall setup = make_levels(kEightRegions, Element::bfloat16, levels, 17);
    DeviceCall call(setup, false);
    const Blas blas;
    const auto is_wgmma = [](const AttentionKernel& kernel) { return kernel.name == "wgmma"; };
    static_cast<void>(call.run(*std::ranges::find_if(attention_kernels(), is_wgmma), blas));
    return call.scratch(2);  // RecomputeList's count
  };
  Attention call;
  call.layout = kEightRegions;
  if (const std::string why = attend_wgmma_unsupported(call, device_capability()); !why.empty()) GTEST_SKIP() << why;
  EXPECT_EQ(recomputed({0, 300, 0, 0, 0, 0, 0, 0}), kEightRegions.blocks());
  EXPECT_EQ(recomputed({0, 30, 60, 90, 0, 0, 0, 0}), 0);
}

// Claim: 1,000 runs give the same bits, although long and short rows land on other multiprocessors in each.
TEST_P(Attending, RunsAreBitIdentical) {
  const Layout layout{.heads = 2, .frames = 3, .height = 30, .width = 52, .text = 77, .head_dim = 128};
  if (!supports(layout, Element::bfloat16, false)) GTEST_SKIP() << "unsupported here";
  const TestCall setup = make_call(layout, Element::bfloat16, true, 7);
  DeviceCall call(setup, false);
  const Result first = call.run(GetParam(), blas());
  for (int repeat = 1; repeat < 1000; ++repeat) ASSERT_TRUE(call.run(GetParam(), blas()) == first) << repeat;
}

// Given a NaN in one key, claim: exactly the rows that keep the key's block have NaN in their output.
TEST_P(Attending, NaNShows) {
  const Layout layout = small_layout(Element::bfloat16);
  if (!supports(layout, Element::bfloat16, false)) GTEST_SKIP() << "unsupported here";
  TestCall setup = make_call(layout, Element::bfloat16, true, 11);
  constexpr int kKey = 3;  // of block 0
  setup.k.bits[static_cast<std::size_t>(layout.offset(0, kKey))] = 0x7fc0;
  const Result found = run(GetParam(), blas(), setup, false);
  for (int token = 0; token < layout.tokens(); ++token) {
    const int block = layout.block_of(token);
    const bool keeps = block >= layout.regions() || setup.masks[0].kept(block, 0);
    EXPECT_EQ(std::isnan(decode(Element::bfloat16, found.o[static_cast<std::size_t>(layout.offset(0, token))])), keeps)
        << token;
    EXPECT_EQ(std::isnan(found.lse[static_cast<std::size_t>(token)]), keeps) << token;
  }
}

// Given tensors of more than 2^31 elements, claim: the last head's output is the same as when it is computed alone.
TEST_P(Attending, TensorsBeyond2To31Elements) {
  const Layout one{.heads = 1, .frames = 2, .height = 88, .width = 80, .text = 13, .head_dim = 128};
  Layout many = one;
  many.heads = static_cast<int>((std::int64_t{1} << 31) / one.offset(1, 0)) + 2;
  if (!supports(many, Element::bfloat16, false)) GTEST_SKIP() << "unsupported here";
  const auto size = static_cast<std::size_t>(many.offset(many.heads, 0));
  const auto own = static_cast<std::size_t>(one.offset(1, 0));
  ASSERT_GT(size, std::size_t{1} << 31);
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  if (free < 4 * size * 2 + (std::size_t{1} << 30))
    GTEST_SKIP() << "wants " << 4 * size * 2 << " bytes, " << free << " are free";
  const Tensor last = random_tensor(one, Element::bfloat16, 13);
  const DeviceBuffer<std::uint16_t> q(size), k(size), v(size), o(size);
  const DeviceBuffer<float> lse(static_cast<std::size_t>(many.heads) * static_cast<std::size_t>(many.tokens()));
  for (const auto* tensor : {&q, &k, &v}) {
    fill_bytes(tensor->data(), 0, tensor->bytes());
    copy_to_device(tensor->data() + size - own, std::span(last.bits));
  }
  const Stream stream;
  const auto attend = [&](const Layout& layout, std::size_t start, float* sums) {
    const Attention call{.layout = layout,
                         .element = Element::bfloat16,
                         .scale = 0.1F,
                         .region_order = false,
                         .q = q.data() + start,
                         .k = k.data() + start,
                         .v = v.data() + start,
                         .o = o.data() + start,
                         .lse = sums};
    const DeviceBuffer<std::uint8_t> workspace(GetParam().workspace(call));
    GetParam().launch(call, {blas(), workspace.data()}, stream.get());
    stream.wait();
    std::vector<std::uint16_t> result(own);
    check(cudaMemcpy(result.data(), o.data() + size - own, own * 2, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return result;
  };
  fill_bytes(o.data(), 0xff, o.bytes());
  const auto among_many = attend(many, 0, lse.data());
  fill_bytes(o.data(), 0xff, o.bytes());
  EXPECT_TRUE(attend(one, size - own, lse.data()) == among_many);
}

// Negative control: the check fails on one wrong block and on one row scaled by 1.02, by 1.5 with 8-bit numbers.
TEST_P(Attending, TheCheckCanFail) {
  const Layout layout = small_layout(Element::float16);
  if (!supports(layout, Element::float16, false)) GTEST_SKIP() << "unsupported here";
  TestCall setup = make_call(layout, Element::float16, true, 9);
  Result found = run(GetParam(), blas(), setup, false);
  const Truths truths = truths_of(setup, arithmetic());
  ASSERT_TRUE(judge(setup, truths, found, false).fine());
  const Result good = found;
  const float factor = GetParam().eight_bit() ? 1.5F : 1.02F;
  for (std::size_t d = 0; d < static_cast<std::size_t>(layout.head_dim); ++d) {  // row 0
    const float value = static_cast<float>(decode(Element::float16, found.o[d]));
    found.o[d] = __half_raw(__float2half_rn(value * factor)).x;
  }
  EXPECT_FALSE(judge(setup, truths, found, false).fine());
  for (Index column = 0; column < 8; ++column) {
    if (!setup.masks[0].kept(7, column)) {
      setup.masks[0].set(7, column, true);
      EXPECT_FALSE(judge(setup, truths_of(setup, arithmetic()), good, false).fine());
      return;
    }
  }
  FAIL() << "row 7 keeps everything";
}

// Claim: 100 runs with a remainder give the same bits.
TEST_P(Attending, RunsWithARemainderAreBitIdentical) {
  const Layout layout{.heads = 2, .frames = 3, .height = 30, .width = 52, .text = 77, .head_dim = 128};
  if (!supports(layout, Element::bfloat16, false, true)) GTEST_SKIP() << "has no remainder";
  TestCall setup = make_call(layout, Element::bfloat16, true, 7);
  add_remainder(setup);
  DeviceCall call(setup, false);
  const Result first = call.run(GetParam(), blas());
  for (int repeat = 1; repeat < 100; ++repeat) ASSERT_TRUE(call.run(GetParam(), blas()) == first) << repeat;
}

TEST_P(Attending, RefusesNullPointers) {
  Attention call;
  call.scale = 1.0F;
  EXPECT_THROW(GetParam().launch(call, {blas(), nullptr}, nullptr), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Attending, ::testing::ValuesIn(attention_kernels()),
                         [](const auto& kernel) { return kernel.param.name; });

}  // namespace
}  // namespace draft::gpu
