// Tensors of other strides than a contiguous one's (strided.hpp): the contiguous call's bits, and nothing read or
// written between the rows. What strides are refused: core/strided_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <stdexcept>

#include "kernels/core/strided.hpp"
#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

constexpr std::uint16_t kNaN = 0xffff;  // in both element types, and what GuardedBuffer writes

/// Ways to place [heads, tokens, head_dim], with room between rows in all but the first.
constexpr int kPlacings = 4;
Strides placed(int placing, const Layout& layout) {
  const std::int64_t dim = layout.head_dim, heads = layout.heads, tokens = layout.tokens();
  switch (placing % kPlacings) {
    case 0: return {dim, heads * dim};                   // [tokens, heads, head_dim]
    case 1: return {3 * dim, 3 * heads * dim};           // a head's part of a projection to q, k and v
    case 2: return {tokens * (dim + 8) + 40, dim + 8};   // room behind tokens and behind heads
    default: return {dim + 16, heads * (dim + 16) + 8};  // the same with tokens outside
  }
}

std::size_t span_of(const Layout& layout, const Strides& strides) {
  return static_cast<std::size_t>(strides.offset(layout.heads - 1, layout.tokens() - 1) + layout.head_dim);
}

/// Calls copy(contiguous first element, placed first element) for each row.
template <typename Copy>
void for_rows(const Layout& layout, const Strides& strides, Copy copy) {
  for (int head = 0; head < layout.heads; ++head) {
    for (int token = 0; token < layout.tokens(); ++token) copy(layout.offset(head, token), strides.offset(head, token));
  }
}

/// Contiguous rows at their places, with NaN between them.
std::vector<std::uint16_t> scatter(const Layout& layout, const Strides& strides,
                                   const std::vector<std::uint16_t>& rows) {
  std::vector<std::uint16_t> memory(span_of(layout, strides), kNaN);
  for_rows(layout, strides, [&](std::int64_t from, std::int64_t to) {
    std::copy_n(rows.begin() + from, layout.head_dim, memory.begin() + to);
  });
  return memory;
}

/// The rows at their places as a contiguous tensor. Takes them out of `memory`: NaN is what must be left of it.
std::vector<std::uint16_t> gather(const Layout& layout, const Strides& strides, std::vector<std::uint16_t>& memory) {
  std::vector<std::uint16_t> rows(span_of(layout, Strides::contiguous(layout)));
  for_rows(layout, strides, [&](std::int64_t to, std::int64_t from) {
    std::copy_n(memory.begin() + from, layout.head_dim, rows.begin() + to);
    std::fill_n(memory.begin() + from, layout.head_dim, kNaN);
  });
  return rows;
}

std::string to_string(const Strides& strides) {
  return std::to_string(strides.head) + " and " + std::to_string(strides.token);
}

/// A call's contiguous inputs, [heads, tokens, head_dim] in any order of tokens, and what is kept.
struct Inputs {
  Layout layout;
  Element element;
  std::array<std::vector<std::uint16_t>, 3> rows;    // q, k, v
  std::array<std::vector<std::uint16_t>, 2> pooled;  // of k, v
  Selected lists;

  Inputs(const Layout& of, Element type) : layout(of), element(type) {
    const Layout regions{.heads = of.heads, .frames = of.regions(), .height = 1, .width = 1, .head_dim = of.head_dim};
    for (std::uint32_t i = 0; i < 3; ++i) rows[i] = random_tensor(layout, element, 3 + i).bits;
    for (std::uint32_t i = 0; i < 2; ++i) pooled[i] = random_tensor(regions, element, 6 + i).bits;
    std::mt19937 random(9);
    std::vector<float> scores(static_cast<std::size_t>(layout.map_offset(layout.heads)));
    for (float& score : scores) score = static_cast<float>(random() % 100);
    lists = select_on_gpu(layout, Rule::logits, 0.7, scores);
  }
};

struct Choice {
  bool sparse, remainder, region_order;
};
constexpr Choice kChoices[] = {{false, false, false}, {true, false, false}, {true, true, false}, {true, false, true}};

struct Result {
  std::vector<std::uint16_t> o;  // contiguous
  std::vector<float> lse;
  bool operator==(const Result&) const = default;
};

class Striding : public GpuTest, public ::testing::WithParamInterface<AttentionKernel> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) blas_ = std::make_unique<Blas>();
  }
  /// Why the kernel cannot do calls of this kind with tensors that are not contiguous.
  [[nodiscard]] static std::string why_not(const Layout& layout, Element element, const Choice& choice) {
    Attention call;
    call.layout = layout;
    call.element = element;
    call.region_order = choice.region_order;
    call.strides.k = placed(2, layout);
    if (choice.remainder) call.pooled_k = call.pooled_v = &call;
    return GetParam().unsupported(call, device_capability());
  }

  /// Tensors placed as `places` says (q, k, v, o), and a call that says `said`; by default the truth.
  [[nodiscard]] Result run(const Inputs& inputs, const Choice& choice, const std::array<Strides, 4>& places,
                           const std::array<Strides, 4>* said = nullptr) const {
    const Layout& layout = inputs.layout;
    const auto placed_rows = [&](std::size_t i) {
      const std::vector<std::uint16_t> memory = scatter(layout, places[i], inputs.rows[i]);
      return DeviceBuffer<std::uint16_t>{std::span(memory)};
    };
    const DeviceBuffer<std::uint16_t> q = placed_rows(0), k = placed_rows(1), v = placed_rows(2),
                                      pooled_k{std::span(inputs.pooled[0])}, pooled_v{std::span(inputs.pooled[1])},
                                      columns{std::span(inputs.lists.columns)}, order{std::span(inputs.lists.order)};
    const DeviceBuffer<std::int32_t> counts{std::span(inputs.lists.counts)};
    const Guarded<std::uint16_t> o(span_of(layout, places[3]));
    const Guarded<float> lse(static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.tokens()));
    const std::array<Strides, 4>& strides = said == nullptr ? places : *said;
    Attention call{.layout = layout,
                   .element = inputs.element,
                   .scale = static_cast<float>(1.0 / std::sqrt(layout.head_dim)),
                   .region_order = choice.region_order,
                   .q = q.data(),
                   .k = k.data(),
                   .v = v.data(),
                   .o = o.data(),
                   .lse = lse.data()};
    call.strides = {.q = strides[0], .k = strides[1], .v = strides[2], .o = strides[3]};
    if (choice.sparse) call.lists = {columns.data(), counts.data(), order.data(), nullptr};
    if (choice.remainder) {
      call.pooled_k = pooled_k.data();
      call.pooled_v = pooled_v.data();
    }
    const Guarded<std::uint8_t> workspace(GetParam().workspace(call));
    const Stream stream;
    GetParam().launch(call, {*blas_, workspace.data()}, stream.get());
    stream.wait();
    workspace.expect_guards();
    std::vector<std::uint16_t> memory = o.read();
    Result result{gather(layout, places[3], memory), lse.read()};
    if (said == nullptr) {
      EXPECT_EQ(std::ranges::count_if(memory, [](std::uint16_t bits) { return bits != kNaN; }), 0)
          << "numbers between the rows of o were written to";
    }
    return result;
  }
  [[nodiscard]] static std::array<Strides, 4> contiguous(const Layout& layout) {
    const Strides own = Strides::contiguous(layout);
    return {own, own, own, own};
  }

 private:
  std::unique_ptr<Blas> blas_;
};

bool all_numbers(const Result& result, Element element) {
  return std::ranges::all_of(result.o, [&](std::uint16_t bits) { return std::isfinite(decode(element, bits)); }) &&
         std::ranges::none_of(result.lse, [](float x) { return std::isnan(x); });
}

// Given q, k, v and o that are each placed in another way, with NaN between their rows, claim: output and log-sum-exp
// have the contiguous call's bits, dense and sparse, with a remainder and in region order, and o's gaps stay as they
// are.
TEST_P(Striding, GivesTheContiguousCallsBitsOnEveryLayout) {
  int calls = 0;
  std::string why;
  for (const Layout& layout : swept_layouts()) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      std::unique_ptr<Inputs> inputs;
      for (const Choice& choice : kChoices) {
        if (std::string reason = why_not(layout, element, choice); !reason.empty()) {
          why = std::move(reason);
          continue;
        }
        if (inputs == nullptr) inputs = std::make_unique<Inputs>(layout, element);
        const Result wanted = run(*inputs, choice, contiguous(layout));
        ASSERT_TRUE(all_numbers(wanted, element)) << to_string(layout);
        for (int first = 0; first < kPlacings; ++first) {
          const std::array<Strides, 4> places{placed(first, layout), placed(first + 1, layout),
                                              placed(first + 2, layout), placed(first + 3, layout)};
          ++calls;
          EXPECT_TRUE(run(*inputs, choice, places) == wanted)
              << to_string(layout) << (choice.sparse ? ", sparse" : ", dense")
              << (choice.remainder ? ", remainder" : "") << (choice.region_order ? ", region order" : "")
              << (element == Element::bfloat16 ? ", bf16" : ", fp16") << ", q's strides " << to_string(places[0]);
        }
      }
    }
  }
  if (calls == 0) GTEST_SKIP() << GetParam().name << " " << why;
  RecordProperty("calls", calls);
  EXPECT_GE(calls, 4 * 8);
}

// Negative control: with one tensor's strides wrong, those of [tokens, heads, head_dim] for a contiguous one, the
// result is another.
TEST_P(Striding, TheCheckCanFail) {
  const Layout layout{.heads = 2, .frames = 2, .height = 9, .width = 17, .text = 77, .head_dim = 128};
  const Choice choice{true, false, false};
  if (const std::string why = why_not(layout, Element::bfloat16, choice); !why.empty()) {
    GTEST_SKIP() << GetParam().name << " " << why;
  }
  const Inputs inputs(layout, Element::bfloat16);
  const std::array<Strides, 4> places = contiguous(layout);
  const Result wanted = run(inputs, choice, places);
  EXPECT_TRUE(run(inputs, choice, places, &places) == wanted);
  for (std::size_t tensor = 0; tensor < 4; ++tensor) {
    std::array<Strides, 4> said = places;
    said[tensor] = placed(0, layout);
    EXPECT_FALSE(run(inputs, choice, places, &said) == wanted) << tensor;
  }
}

// Claim: a kernel of contiguous tensors alone says so and refuses; strides that are a contiguous tensor's are none.
TEST_P(Striding, IsRefusedByKernelsOfContiguousTensors) {
  const Layout layout{.heads = 2, .frames = 1, .height = 8, .width = 16, .head_dim = 128};
  const Choice dense{false, false, false};
  const std::string why = why_not(layout, Element::bfloat16, dense);
  if (why != "wants contiguous tensors") GTEST_SKIP() << GetParam().name << " takes strides, or does not run here";
  const Inputs inputs(layout, Element::bfloat16);
  const Result wanted = run(inputs, dense, contiguous(layout));
  EXPECT_TRUE(all_numbers(wanted, Element::bfloat16));
  std::array<Strides, 4> places = contiguous(layout);
  places[1] = placed(2, layout);
  EXPECT_THROW((void)run(inputs, dense, places), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Striding, ::testing::ValuesIn(attention_kernels()),
                         [](const auto& kernel) { return kernel.param.name; });

using StridedPooling = GpuTest;

/// pool()'s and pool_elements()'s results for rows that are placed as `places` and said to be as `said`.
std::pair<std::vector<float>, std::vector<std::uint16_t>> pooled(const Layout& layout, Element element, Pool kind,
                                                                 const std::vector<std::uint16_t>& bits,
                                                                 const Strides& places, const Strides& said) {
  const std::vector<std::uint16_t> memory = scatter(layout, places, bits);
  const DeviceBuffer<std::uint16_t> rows{std::span(memory)};
  const auto size = static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.regions()) *
                    static_cast<std::size_t>(layout.head_dim);
  const Guarded<float> wide(size);
  const Guarded<std::uint16_t> narrow(size);
  const Stream stream;
  pool(layout, element, kind, rows.data(), wide.data(), stream.get(), said);
  pool_elements(layout, element, kind, rows.data(), narrow.data(), stream.get(), said);
  stream.wait();
  return {wide.read(), narrow.read()};
}

// Claim: pooled rows of a strided tensor have a contiguous one's bits, and with wrong strides they do not.
TEST_F(StridedPooling, GivesTheContiguousRowsBitsOnEveryLayout) {
  for (const Layout& layout : swept_layouts()) {
    for (const Element element : {Element::bfloat16, Element::float16}) {
      const std::vector<std::uint16_t> bits = random_tensor(layout, element, 7).bits;
      for (const Pool kind : {Pool::average, Pool::maximum}) {
        const Strides own = Strides::contiguous(layout);
        const auto wanted = pooled(layout, element, kind, bits, own, own);
        ASSERT_TRUE(std::ranges::none_of(wanted.first, [](float x) { return std::isnan(x); }));
        for (int placing = 0; placing < kPlacings; ++placing) {
          const Strides strides = placed(placing, layout);
          EXPECT_TRUE(pooled(layout, element, kind, bits, strides, strides) == wanted)
              << to_string(layout) << ", strides " << to_string(strides);
        }
        if (layout.heads > 1 && layout.video() > 1) {
          EXPECT_FALSE(pooled(layout, element, kind, bits, own, placed(0, layout)) == wanted) << to_string(layout);
        }
      }
    }
  }
}

}  // namespace
}  // namespace draft::gpu
