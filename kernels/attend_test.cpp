// Attention kernels against the float64 reference under the same mask and the same rounded inputs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "kernels/gpu_test.hpp"
#include "reference/attention.hpp"
#include "reference/regions.hpp"

namespace draft::gpu {
namespace {

using Attending = GpuTest;

/// One call's inputs, and where it may look.
struct TestCall {
  Layout layout;
  Element element;
  Tensor q, k, v;
  Selected lists;                 // empty: dense
  std::vector<BlockMask> masks;   // [heads]
  float scale;
};

TestCall make_call(const Layout& layout, Element element, bool sparse, std::uint32_t seed, double mean = 0.0) {
  TestCall call{layout,
             element,
             random_tensor(layout, element, seed, mean),
             random_tensor(layout, element, seed + 1, -mean),
             random_tensor(layout, element, seed + 2),
             {},
             {},
             static_cast<float>(1.0 / std::sqrt(layout.head_dim))};
  const int regions = layout.regions();
  for (int head = 0; head < layout.heads; ++head) call.masks.emplace_back(regions, true);
  if (!sparse) return call;
  std::mt19937 random(seed);
  std::vector<float> scores(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  for (std::size_t i = 0; i < scores.size(); ++i) {  // rows of different levels: long, short and empty rows
    scores[i] = static_cast<float>(i / static_cast<std::size_t>(regions) % 4) * 2.0F + static_cast<float>(random() % 9);
  }
  call.lists = select_on_gpu(layout, Rule::logits, 0.7, scores);
  for (int head = 0; head < layout.heads; ++head) {
    for (int row = 0; row < regions; ++row) {
      for (int column = 0; column < regions; ++column) {
        const auto at = static_cast<std::size_t>(layout.map_offset(head) + row * regions + column);
        call.masks[static_cast<std::size_t>(head)].set(row, column, call.lists.mask[at] != 0);
      }
    }
  }
  return call;
}

struct Result {
  std::vector<std::uint16_t> o;
  std::vector<float> lse;
  bool operator==(const Result&) const = default;
};

Result run(const TestCall& setup, bool region_order) {
  const std::size_t size = setup.q.bits.size();
  const auto rows = static_cast<std::size_t>(setup.layout.heads) * static_cast<std::size_t>(setup.layout.tokens());
  const Stream stream;
  std::vector<DeviceBuffer<std::uint16_t>> inputs;
  for (const Tensor* tensor : {&setup.q, &setup.k, &setup.v}) {
    inputs.emplace_back(std::span(tensor->bits));
    if (!region_order) continue;
    DeviceBuffer<std::uint16_t> reordered(size);
    reorder(setup.layout, inputs.back().data(), reordered.data(), stream.get());
    stream.wait();
    inputs.back() = std::move(reordered);
  }
  const DeviceBuffer<std::uint16_t> columns{std::span(setup.lists.columns)}, order{std::span(setup.lists.order)};
  const DeviceBuffer<std::int32_t> counts{std::span(setup.lists.counts)};
  const bool sparse = !setup.lists.counts.empty();
  const Guarded<std::uint16_t> o(size);
  const Guarded<float> lse(rows);
  attend_mma({.layout = setup.layout,
              .element = setup.element,
              .scale = setup.scale,
              .region_order = region_order,
              .q = inputs[0].data(),
              .k = inputs[1].data(),
              .v = inputs[2].data(),
              .o = o.data(),
              .lse = lse.data(),
              .columns = sparse ? columns.data() : nullptr,
              .counts = sparse ? counts.data() : nullptr,
              .order = sparse ? order.data() : nullptr},
             stream.get());
  stream.wait();
  return {o.read(), lse.read()};
}

/// Largest error of O over its bound, NaN never passing. With u the element's unit roundoff: P is rounded once
/// (u P |V| in all), O once (u |O|); logits are sums of head_dim fp32 products, so each p is off by at most
/// 2 head_dim 2^-24 |logit| relative, and sums of n fp32 terms by n 2^-24 at the very most.
double worst_ratio(const TestCall& setup, const Result& found, bool region_order) {
  const Layout& layout = setup.layout;
  const Partition partition = partition_of(layout);
  const double u = std::ldexp(1.0, setup.element == Element::bfloat16 ? -8 : -11);  // half the spacing above 1
  double worst = 0.0;
  for (int head = 0; head < layout.heads; ++head) {
    const auto h = static_cast<std::size_t>(head);
    Problem problem{grid_of(layout), setup.q.heads[h], setup.k.heads[h], setup.v.heads[h], setup.scale, "test"};
    const double logit = setup.scale * problem.q.rowwise().norm().maxCoeff() * problem.k.rowwise().norm().maxCoeff();
    const double fp32 = kRoundoff * (4.0 * layout.head_dim * logit + layout.tokens() + 64.0);
    const Output wanted = attend(problem, partition, setup.masks[h]);
    problem.v = problem.v.cwiseAbs();
    const Matrix weight = attend(problem, partition, setup.masks[h]).o;  // P |V|
    Matrix o(layout.tokens(), layout.head_dim);
    Vector lse(layout.tokens());
    for (int token = 0; token < layout.tokens(); ++token) {
      const int place = region_order ? layout.position_of(token) : token;
      for (int d = 0; d < layout.head_dim; ++d) {
        const std::uint16_t bits = found.o[static_cast<std::size_t>(layout.offset(head, place)) + static_cast<std::size_t>(d)];
        o(token, d) = decode(setup.element, bits);
      }
      lse[token] = static_cast<double>(found.lse[h * static_cast<std::size_t>(layout.tokens()) + static_cast<std::size_t>(place)]);
    }
    for (int token = 0; token < layout.tokens(); ++token) {
      if (std::isinf(wanted.lse[token])) {  // keeps nothing
        if (lse[token] != wanted.lse[token] || !o.row(token).isZero(0.0)) return std::numeric_limits<double>::infinity();
        continue;
      }
      const double lse_ratio = std::abs(lse[token] - wanted.lse[token]) / (fp32 * (1.0 + std::abs(wanted.lse[token])));
      worst = lse_ratio <= worst ? worst : lse_ratio;  // a NaN goes through
      for (int d = 0; d < layout.head_dim; ++d) {
        const double bound = (u + fp32) * weight(token, d) + u * std::abs(wanted.o(token, d)) + std::ldexp(1.0, -24);
        const double ratio = std::abs(o(token, d) - wanted.o(token, d)) / bound;
        if (!(ratio <= worst)) worst = ratio;
      }
      if (std::isnan(worst)) return std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

// Claim: dense and block-sparse attention are the reference's on ragged grids, with text, rows that keep nothing,
// regions of 1 to 4,096 tokens, both elements, both orders.
TEST_F(Attending, IsTheReferencesOnEveryLayout) {
  for (const Layout& layout : swept_layouts()) {
    if (layout.head_dim != 64 && layout.head_dim != 128) continue;
    for (const Element element : {Element::bfloat16, Element::float16}) {
      for (const bool sparse : {false, true}) {
        const TestCall setup = make_call(layout, element, sparse, 3);
        for (const bool region_order : {false, true}) {
          EXPECT_LE(worst_ratio(setup, run(setup, region_order), region_order), 1.0)
              << to_string(layout) << (sparse ? ", sparse" : ", dense") << (region_order ? ", region order" : "")
              << (element == Element::bfloat16 ? ", bf16" : ", fp16");
        }
      }
    }
  }
}

// Given logits of about -head_dim * 9 * scale = -100 everywhere, claim: padding (logit 0, weight e^0) gets nothing.
TEST_F(Attending, PaddingHasNoWeightWhereAllLogitsAreStronglyNegative) {
  const Layout layout{.heads = 2, .frames = 2, .height = 9, .width = 17, .text = 77, .head_dim = 128};
  const TestCall setup = make_call(layout, Element::bfloat16, true, 5, 3.0);
  EXPECT_LE(worst_ratio(setup, run(setup, false), false), 1.0);
}

TEST_F(Attending, RunsAreBitIdentical) {
  const Layout layout{.heads = 2, .frames = 3, .height = 30, .width = 52, .text = 77, .head_dim = 128};
  const TestCall setup = make_call(layout, Element::bfloat16, true, 7);
  const Result first = run(setup, false);
  for (int repeat = 0; repeat < 50; ++repeat) ASSERT_TRUE(run(setup, false) == first);
}

// Negative control: one wrong block and one row scaled by 1.02 are both seen.
TEST_F(Attending, TheCheckCanFail) {
  const Layout layout{.heads = 1, .frames = 2, .height = 16, .width = 32, .text = 5, .head_dim = 64};
  TestCall setup = make_call(layout, Element::float16, true, 9);
  Result found = run(setup, false);
  ASSERT_LE(worst_ratio(setup, found, false), 1.0);
  const Result good = found;
  for (std::size_t d = 0; d < 64; ++d) {  // row 0
    const float value = static_cast<float>(decode(Element::float16, found.o[d]));
    found.o[d] = __half_raw(__float2half_rn(value * 1.02F)).x;
  }
  EXPECT_GT(worst_ratio(setup, found, false), 1.0);
  for (Index column = 0; column < 8; ++column) {
    if (!setup.masks[0].kept(7, column)) {
      setup.masks[0].set(7, column, true);
      EXPECT_GT(worst_ratio(setup, good, false), 1.0);
      return;
    }
  }
  FAIL() << "row 7 keeps everything";
}

TEST_F(Attending, RefusesWhatItCannotDo) {
  Attention call;
  call.layout.head_dim = 96;
  EXPECT_THROW(attend_mma(call, nullptr), std::invalid_argument);
  call.layout.head_dim = 128;
  EXPECT_THROW(attend_mma(call, nullptr), std::invalid_argument);  // null pointers
}

}  // namespace
}  // namespace draft::gpu
