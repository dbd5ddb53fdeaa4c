// The pipeline in one call against its steps.
#include "kernels/mask_pipeline.hpp"

#include "kernels/gpu_test.hpp"

namespace draft::gpu {
namespace {

using Pipeline = GpuTest;

/// Lists and mask of all heads, as the device holds them.
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
  [[nodiscard]] Selected read(const MaskPipeline& pipeline) const {
    return {pipeline.status(), columns.read(), counts.read(), order.read(), mask.read()};
  }

  Guarded<std::uint16_t> columns, order;
  Guarded<std::int32_t> counts;
  Guarded<std::uint8_t> mask;

 private:
  static std::size_t sizes(const Layout& layout) {
    return static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.blocks());
  }
};

// Given heads in one group and in two, and odd numbers of blocks, so that no group's lists are aligned to more than
// their elements, claim: lists, masks and status are those of the steps, bit for bit; and the caller's stream waits for
// them: a copy that is enqueued right behind the call has them. Lists of another sparsity are other ones.
TEST_F(Pipeline, IsItsSteps) {
  const Layout layout{.heads = 5, .frames = 3, .height = 30, .width = 52, .text = 77, .head_dim = 64};
  ASSERT_EQ(layout.blocks() % 2, 1);
  const Tensor q = random_tensor(layout, Element::bfloat16, 3), k = random_tensor(layout, Element::bfloat16, 4);
  const DeviceBuffer<std::uint16_t> device_q{std::span(q.bits)}, device_k{std::span(k.bits)};
  for (const int first : {0, 5, 3, 1}) {
    const MaskPipeline pipeline(layout, first);
    ASSERT_EQ(pipeline.first_heads(), first == 0 ? 5 : first);
    for (const Rule rule : kRules) {
      const Found by_steps(layout), found(layout);
      const Stream stream;
      MaskCall call{.how = {rule == Rule::row ? Pool::maximum : Pool::average, rule, 0.7, 0.125F},
                    .q = device_q.data(),
                    .k = device_k.data(),
                    .lists = by_steps.lists()};
      for (const MaskPipeline::Step& step : pipeline.steps(call)) step.enqueue(stream.get());
      stream.wait();
      const Selected wanted = by_steps.read(pipeline);
      const std::string where = std::to_string(first) + " first, rule " + std::to_string(static_cast<int>(rule));
      call.lists = found.lists();
      for (int repeat = 0; repeat < 20; ++repeat) {
        const DeviceBuffer<std::int32_t> copy(static_cast<std::size_t>(layout.heads * layout.blocks()));
        pipeline.enqueue(call, stream.get());
        check(cudaMemcpyAsync(copy.data(), found.counts.data(), copy.bytes(), cudaMemcpyDeviceToDevice, stream.get()),
              "cudaMemcpyAsync");
        stream.wait();
        ASSERT_TRUE(copy.download() == wanted.counts) << where;
      }
      EXPECT_TRUE(found.read(pipeline) == wanted) << where;
      call.how.sparsity = 0.6;
      pipeline.enqueue(call, stream.get());
      stream.wait();
      EXPECT_FALSE(found.read(pipeline) == wanted) << where;
    }
  }
}

TEST_F(Pipeline, LargeCallsGoInTwoGroups) {
  const Layout small{.heads = 24, .frames = 2, .height = 16, .width = 32};
  const Layout large{.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
  EXPECT_EQ(MaskPipeline(small).first_heads(), 24);
  EXPECT_EQ(MaskPipeline(large).first_heads(), 14);
}

TEST_F(Pipeline, ANaNIsItsHeadsStatus) {
  const Layout layout{.heads = 3, .frames = 1, .height = 16, .width = 32, .head_dim = 64};
  Tensor q = random_tensor(layout, Element::bfloat16, 3);
  q.bits[static_cast<std::size_t>(layout.offset(1, 5))] = 0x7fc0;
  const DeviceBuffer<std::uint16_t> rows{std::span(q.bits)};
  const Found found(layout);
  const Stream stream;
  const MaskPipeline pipeline(layout, 1);
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
