// The pipeline against the same functions, called one by one.
#include "kernels/draft/pipeline.hpp"

#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

using Pipeline = GpuTest;

/// Device memory for the lists and mask of all heads.
struct Found {
  explicit Found(const Layout& layout)
      : columns(sizes(layout) * static_cast<std::size_t>(layout.blocks())),
        order(sizes(layout)),
        counts(sizes(layout)),
        mask(static_cast<std::size_t>(layout.map_offset(layout.heads))) {
    columns.poison();
    order.poison();
    counts.poison();
    mask.poison();
  }
  [[nodiscard]] BlockLists lists() const { return {columns.data(), counts.data(), order.data(), mask.data()}; }
  [[nodiscard]] Selected read(const std::vector<std::int32_t>& status) const {
    return {status, columns.read(), counts.read(), order.read(), mask.read()};
  }

  Guarded<std::uint16_t> columns, order;
  Guarded<std::int32_t> counts;
  Guarded<std::uint8_t> mask;

 private:
  static std::size_t sizes(const Layout& layout) {
    return static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.blocks());
  }
};

/// The pipeline's result, by calling each function.
Selected by_functions(const Layout& layout, const MaskCall& call) {
  const DraftRule& how = call.how;
  const auto pooled = static_cast<std::size_t>(layout.heads * layout.regions() * layout.head_dim);
  const DeviceBuffer<float> pooled_q(pooled), pooled_k(pooled);
  const DeviceBuffer<float> scores(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  const DeviceBuffer<std::uint8_t> workspace(workspace_bytes(layout));
  const DeviceBuffer<std::int32_t> status(static_cast<std::size_t>(layout.heads));
  const Found found(layout);
  const Stream stream;
  pool(layout, call.element, how.pool, call.q, pooled_q.data(), stream.get());
  pool(layout, call.element, how.pool, call.k, pooled_k.data(), stream.get());
  if (how.rule == Rule::softmax || how.rule == Rule::released) {
    draft_probabilities(layout, how.scale, pooled_q.data(), pooled_k.data(), scores.data(), stream.get());
  } else {
    draft_logits(layout, pooled_q.data(), pooled_k.data(), scores.data(), stream.get());
  }
  find_thresholds(layout, how.rule, how.sparsity, scores.data(), workspace.data(), status.data(), stream.get());
  write_lists(layout, how.rule, scores.data(), workspace.data(), found.lists(), stream.get());
  stream.wait();
  return found.read(status.download());
}

// Given every rule and both poolings, claim: lists, masks and status are those of the functions, bit for bit, also in
// repeated calls. Negative control: another sparsity gives other lists.
TEST_F(Pipeline, IsItsFunctions) {
  const Layout layout{.heads = 5, .frames = 3, .height = 30, .width = 52, .text = 77, .head_dim = 64};
  const Tensor q = random_tensor(layout, Element::bfloat16, 3), k = random_tensor(layout, Element::bfloat16, 4);
  const DeviceBuffer<std::uint16_t> device_q{std::span(q.bits)}, device_k{std::span(k.bits)};
  const MaskPipeline pipeline(layout);
  for (const Rule rule : choices_of(kRules)) {
    for (const Pool kind : {Pool::average, Pool::maximum}) {
      const Found found(layout);
      const Stream stream;
      MaskCall call{
          .how = {kind, rule, 0.7, 0.125F}, .q = device_q.data(), .k = device_k.data(), .lists = found.lists()};
      const Selected wanted = by_functions(layout, call);
      for (int repeat = 0; repeat < 3; ++repeat) {
        pipeline.enqueue(call, stream.get());
        EXPECT_TRUE(found.read(pipeline.status()) == wanted) << "rule " << to_string(rule);
      }
      call.how.sparsity = 0.6;
      pipeline.enqueue(call, stream.get());
      EXPECT_FALSE(found.read(pipeline.status()) == wanted) << "rule " << to_string(rule);
    }
  }
}

TEST_F(Pipeline, ANaNIsItsHeadsStatus) {
  const Layout layout{.heads = 3, .frames = 1, .height = 16, .width = 32, .head_dim = 64};
  Tensor q = random_tensor(layout, Element::bfloat16, 3);
  q.bits[static_cast<std::size_t>(layout.offset(1, 5))] = 0x7fc0;
  const DeviceBuffer<std::uint16_t> rows{std::span(q.bits)};
  const Found found(layout);
  const Stream stream;
  const MaskPipeline pipeline(layout);
  pipeline.enqueue(
      {.how = {.sparsity = 0.5, .scale = 0.125F}, .q = rows.data(), .k = rows.data(), .lists = found.lists()},
      stream.get());
  stream.wait();
  EXPECT_EQ(pipeline.status(), (std::vector<std::int32_t>{kFine, kNaNScore, kFine}));
  EXPECT_THROW(pipeline.require_fine(), Error);
}

TEST_F(Pipeline, RefusesWhatIsNotThere) {
  const Layout layout{.heads = 1, .frames = 1, .height = 8, .width = 16, .head_dim = 64};
  const MaskPipeline pipeline(layout);
  EXPECT_THROW(pipeline.enqueue({}, nullptr), std::invalid_argument);
  Layout wrong = layout;
  wrong.heads = 0;
  EXPECT_THROW(MaskPipeline{wrong}, std::invalid_argument);
}

}  // namespace
}  // namespace draft::gpu
