#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

using Lists = GpuTest;

/// The first error in one head's lists compared with its mask; "" if there is none.
std::string complaint(const Layout& layout, const Selected& found, int head) {
  const int regions = layout.regions(), blocks = layout.blocks();
  const std::int32_t* counts = found.counts.data() + head * blocks;
  for (int row = 0; row < blocks; ++row) {
    std::vector<std::uint16_t> wanted;
    for (int column = 0; column < blocks; ++column) {
      const bool text = row >= regions || column >= regions;
      if (text || found.mask[static_cast<std::size_t>(layout.map_offset(head) + row * regions + column)] != 0) {
        wanted.push_back(static_cast<std::uint16_t>(column));
      }
    }
    if (counts[row] != static_cast<std::int32_t>(wanted.size())) return "count of row " + std::to_string(row);
    wanted.resize(static_cast<std::size_t>(blocks), 0xffff);  // entries past the count keep the poison: not written
    const std::uint16_t* columns = found.columns.data() + (static_cast<std::size_t>(head) * blocks + row) * blocks;
    if (!std::equal(wanted.begin(), wanted.end(), columns)) return "columns of row " + std::to_string(row);
  }
  std::vector<std::uint16_t> order(static_cast<std::size_t>(blocks));
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return counts[a] > counts[b]; });
  return std::equal(order.begin(), order.end(), found.order.data() + head * blocks) ? "" : "order";
}

std::vector<float> tied_scores(const Layout& layout, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> scores(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  for (std::size_t i = 0; i < scores.size(); ++i) {
    // The mean score differs from row to row, so that a head's rule leaves rows empty, short and long.
    const auto row = i / static_cast<std::size_t>(layout.regions());
    scores[i] = static_cast<float>(row % 5) + static_cast<float>(random() % 9);
  }
  return scores;
}

// Given maps with ties, empty rows and text, claim: each list is the mask's columns and all text blocks, ascending,
// with nothing written past its count; text rows keep everything; the order is the stable sort by falling count.
TEST_F(Lists, SayWhatTheMaskSaysAndRowsStandLongestFirst) {
  for (const int regions : {1, 2, 31, 32, 33, 127, 128, 129, 257, 990}) {
    for (const int text : {0, 1, 77, 129, 256}) {
      const Layout layout = map_layout(regions == 990 ? 2 : 3, regions, text);
      ASSERT_EQ(layout.blocks(), regions + (text + 127) / 128);
      const std::vector<float> scores = tied_scores(layout, static_cast<std::uint32_t>(regions + text));
      for (const Rule rule : choices_of(kRules)) {
        for (const double sparsity : {0.0, 0.5, 0.9}) {
          const Selected found = select_on_gpu(layout, rule, sparsity, scores);
          for (int head = 0; head < layout.heads; ++head) {
            EXPECT_EQ(complaint(layout, found, head), "")
                << regions << " regions, text " << text << ", rule " << to_string(rule) << ", sparsity " << sparsity;
          }
        }
      }
    }
  }
}

TEST_F(Lists, EmptyRowsHaveCountZeroAndStandLast) {
  const Layout layout = map_layout(1, 4);
  std::vector<float> scores(16, 0.0F);
  std::fill(scores.begin() + 4, scores.begin() + 8, 1.0F);  // row 1
  const Selected found = select_on_gpu(layout, Rule::logits, 0.75, scores);
  EXPECT_EQ(found.counts, (std::vector<std::int32_t>{0, 4, 0, 0}));
  EXPECT_EQ(found.order, (std::vector<std::uint16_t>{1, 0, 2, 3}));
}

// Given maps of which one number, a row, half of the entries or all are NaN, small and large, claim: the head's status
// says so, and its lists are still lists: rising columns of the map, as many as counted, in an order of all rows. A
// kernel may then read them before anybody has looked at the status. The heads beside it are not touched.
TEST_F(Lists, OfNaNScoresAreListsAllTheSame) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const int regions : {1, 33, 257, 990}) {
    const Layout layout = map_layout(2, regions, 77);
    const std::vector<float> scores = tied_scores(layout, static_cast<std::uint32_t>(regions));
    const auto entries = static_cast<std::size_t>(layout.map_offset(1));
    for (const Rule rule : choices_of(kRules)) {
      const Selected wanted = select_on_gpu(layout, rule, 0.5, scores);
      for (const std::size_t step : {entries, std::size_t{2}, std::size_t{1}, std::size_t{0}}) {
        std::vector<float> bad = scores;
        if (step == 0) {
          std::fill_n(bad.begin(), regions, kNaN);
        } else {
          for (std::size_t i = 0; i < entries; i += step) bad[i] = i / step % 3 == 1 ? -kNaN : kNaN;
        }
        const Selected found = select_on_gpu(layout, rule, 0.5, bad);
        EXPECT_EQ(found.status, (std::vector<std::int32_t>{kNaNScore, kFine}));
        for (int head = 0; head < 2; ++head) {
          EXPECT_EQ(complaint(layout, found, head), "")
              << regions << " regions, step " << step << ", rule " << to_string(rule);
        }
        EXPECT_TRUE(std::equal(wanted.mask.begin() + static_cast<std::ptrdiff_t>(entries), wanted.mask.end(),
                               found.mask.begin() + static_cast<std::ptrdiff_t>(entries)));
      }
    }
  }
}

// The mask is optional, and lists do not depend on it.
TEST_F(Lists, AreTheSameWithoutAMask) {
  const Layout layout = map_layout(2, 100, 77);
  const std::vector<float> scores = tied_scores(layout, 4);
  const Selected wanted = select_on_gpu(layout, Rule::softmax, 0.8, scores);
  const DeviceBuffer<float> device_scores{std::span(scores)};
  const Guarded<std::uint8_t> workspace(workspace_bytes(layout));
  const Guarded<std::int32_t> status(2), counts(wanted.counts.size());
  const Guarded<std::uint16_t> columns(wanted.columns.size()), order(wanted.order.size());
  const Stream stream;
  find_thresholds(layout, Rule::softmax, 0.8, device_scores.data(), workspace.data(), status.data(), stream.get());
  write_lists(layout, Rule::softmax, device_scores.data(), workspace.data(),
              {columns.data(), counts.data(), order.data(), nullptr}, stream.get());
  stream.wait();
  EXPECT_EQ(columns.read(), wanted.columns);
  EXPECT_EQ(counts.read(), wanted.counts);
  EXPECT_EQ(order.read(), wanted.order);
}

TEST_F(Lists, TheCheckCanFail) {
  const Layout layout = map_layout(1, 40, 5);
  const Selected good = select_on_gpu(layout, Rule::logits, 0.5, tied_scores(layout, 2));
  ASSERT_EQ(complaint(layout, good, 0), "");
  Selected bad = good;
  std::swap(bad.columns[0], bad.columns[1]);
  EXPECT_EQ(complaint(layout, bad, 0), "columns of row 0");
  bad = good;
  ++bad.counts[7];
  EXPECT_EQ(complaint(layout, bad, 0), "count of row 7");
  bad = good;
  std::swap(bad.order[3], bad.order[20]);
  EXPECT_EQ(complaint(layout, bad, 0), "order");
}

}  // namespace
}  // namespace draft::gpu
