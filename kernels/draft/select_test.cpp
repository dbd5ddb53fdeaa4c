#include <algorithm>
#include <cmath>

#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

using Selection = GpuTest;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kSparsities[] = {0.0, 0.1, 0.5, 0.6, 0.8, 0.9, 0.95, 0.999, 0.9999999999};

/// Kinds of scores: few different ones (levels, two, one, sixteenths), without ties (normal), the ends of the number
/// range (extremes), and almost equal ones that share their upper digits (near).
enum class Kind { levels, two, one, normal, sixteenths, extremes, near, kinds };

std::vector<float> random_scores(std::mt19937& random, Kind kind, std::size_t size) {
  constexpr float kExtremes[] = {-kInfinity, -3e38F, -1e-38F, -1e-45F, -0.0F, 0.0F, 1e-45F, 1e-38F, 3e38F, kInfinity};
  std::normal_distribution<float> normal;
  std::vector<float> scores(size);
  for (float& score : scores) {
    const auto draw = random();
    switch (kind) {
      case Kind::levels: score = 0.5F * static_cast<float>(static_cast<int>(draw % 7) - 3); break;
      case Kind::two: score = draw % 2 != 0 ? -0.0F : 0.0F; break;  // two numbers, one score
      case Kind::one: score = -2.5F; break;
      case Kind::sixteenths: score = static_cast<float>(draw % 17) / 16.0F; break;
      case Kind::extremes: score = kExtremes[draw % 10]; break;
      case Kind::near: score = 0.001F * (1.0F + 1e-5F * normal(random)); break;
      default: score = normal(random); break;
    }
    if (kind == Kind::levels && score == 0.0F && draw % 3 == 0) score = -0.0F;
  }
  return scores;
}

void expect_the_references_masks(const Layout& layout, Rule rule, double sparsity, const Selected& found,
                                 const std::vector<ReferenceMasks>& wanted) {
  for (int head = 0; head < layout.heads; ++head) {
    EXPECT_EQ(found.status[head], kFine);
    EXPECT_EQ(differences(wanted[head].mask(rule, sparsity), found.mask.data() + layout.map_offset(head)), 0)
        << layout.regions() << " regions, rule " << to_string(rule) << ", sparsity " << sparsity << ", head " << head;
  }
}

std::vector<ReferenceMasks> reference_masks(const Layout& layout, const std::vector<float>& scores) {
  std::vector<ReferenceMasks> masks;
  for (int head = 0; head < layout.heads; ++head)
    masks.emplace_back(layout.regions(), scores.data() + layout.map_offset(head));
  return masks;
}

// Given 1,000 random maps of 1 to 240 regions, most with ties, in batches of 1 to 5 heads, claim: every rule's mask is
// the reference's, bit for bit, at three random sparsities.
TEST_F(Selection, IsTheReferencesBitForBitOnAThousandMaps) {
  std::mt19937 random(2025);
  int maps = 0;
  for (int batch = 0; maps < 1000; ++batch) {
    const int heads = 1 + static_cast<int>(random() % 5);
    const double share = static_cast<double>(random()) / 4294967296.0;
    const int regions = batch < 3 ? (batch == 2 ? 240 : batch + 1) : 1 + static_cast<int>(240.0 * share * share);
    const Layout layout = map_layout(heads, regions);
    const auto kind = static_cast<Kind>(batch % static_cast<int>(Kind::kinds));
    const std::vector<float> scores = random_scores(random, kind, static_cast<std::size_t>(layout.map_offset(heads)));
    const std::vector<ReferenceMasks> wanted = reference_masks(layout, scores);
    for (const Rule rule : choices_of(kRules)) {
      for (int i = 0; i < 3; ++i) {
        const double sparsity = kSparsities[random() % std::size(kSparsities)];
        expect_the_references_masks(layout, rule, sparsity, select_on_gpu(layout, rule, sparsity, scores), wanted);
      }
    }
    maps += heads;
    ASSERT_FALSE(HasFailure()) << "batch " << batch;
  }
}

// HunyuanVideo 768p's map is large enough for bracket and collect; Wan2.1 512p's, like all up to 256 regions, is done
// by one CTA. Scores without ties: the bracket holds. Ties at the threshold. Few levels: more entries lie in the
// bracket than can be collected. And one row in 97 far above all others, so that few samples hit the rows that matter.
TEST_F(Selection, IsTheReferencesOnTheModelsMaps) {
  std::mt19937 random(990);
  for (const int regions : {252, 256, 257, 990}) {
    const Layout layout = map_layout(2, regions, 256);
    for (const Kind kind : {Kind::levels, Kind::near, Kind::normal, Kind::extremes, Kind::kinds}) {
      std::vector<float> scores = random_scores(random, kind, static_cast<std::size_t>(layout.map_offset(2)));
      if (kind == Kind::kinds) {
        for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += i / regions % 97 == 5 ? 1e6F : 0.0F;
      }
      const std::vector<ReferenceMasks> wanted = reference_masks(layout, scores);
      for (const Rule rule : choices_of(kRules)) {
        for (const double sparsity : kSparsities) {
          const Selected found = select_on_gpu(layout, rule, sparsity, scores);
          expect_the_references_masks(layout, rule, sparsity, found, wanted);
          EXPECT_TRUE(select_on_gpu(layout, rule, sparsity, scores) == found) << "runs differ";
        }
      }
    }
  }
}

// 3,960 regions (HunyuanVideo with 4 x 8 regions), against nth_element with ties by index.
TEST_F(Selection, IsExactOnTheLargestMap) {
  std::mt19937 random(3960);
  const Layout layout = map_layout(1, 3960);
  const auto size = static_cast<std::size_t>(layout.map_offset(1));
  for (const Kind kind : {Kind::normal, Kind::sixteenths}) {
    const std::vector<float> scores = random_scores(random, kind, size);
    std::vector<float> falling = scores;
    const Index count = kept_count(0.9, static_cast<Index>(size));
    std::nth_element(falling.begin(), falling.begin() + (count - 1), falling.end(), std::greater<>());
    const float threshold = falling[static_cast<std::size_t>(count - 1)];
    Index ties = count - std::count_if(scores.begin(), scores.end(), [&](float s) { return s > threshold; });
    const Selected found = select_on_gpu(layout, Rule::softmax, 0.9, scores);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const bool keep = scores[i] > threshold || (scores[i] == threshold && ties-- > 0);
      wrong += found.mask[i] != (keep ? 1 : 0);
    }
    EXPECT_EQ(wrong, 0U);
  }
}

// At a sparsity so near 1 that (1 - sparsity) * blocks is below the slack for rounding, one block is kept.
TEST_F(Selection, KeepsOneBlockNearSparsityOne) {
  const Layout layout = map_layout(1, 7, 5);
  std::mt19937 random(1);
  const Selected found = select_on_gpu(layout, Rule::logits, 1.0 - 1e-12, random_scores(random, Kind::normal, 49));
  EXPECT_EQ(std::count(found.mask.begin(), found.mask.end(), 1), 1);
}

TEST_F(Selection, ANaNSetsItsHeadsStatusAlone) {
  std::mt19937 random(8);
  for (const int regions : {33, 300}) {
    const Layout layout = map_layout(4, regions);
    for (const Rule rule : choices_of(kRules)) {
      std::vector<float> scores = random_scores(random, Kind::normal, static_cast<std::size_t>(layout.map_offset(4)));
      scores[static_cast<std::size_t>(layout.map_offset(3) - 1)] =
          std::copysign(std::nanf(""), rule == Rule::row ? -1.0F : 1.0F);
      EXPECT_EQ(select_on_gpu(layout, rule, 0.5, scores).status,
                (std::vector<std::int32_t>{kFine, kFine, kNaNScore, kFine}));
    }
  }
}

// Negative controls: the comparison finds one wrong entry, and the opposite tie rule gives a different mask.
TEST_F(Selection, TheCheckCanFail) {
  std::mt19937 random(6);
  const Layout layout = map_layout(1, 50);
  const std::vector<float> scores = random_scores(random, Kind::levels, 2500);
  const BlockMask wanted = ReferenceMasks(50, scores.data()).mask(Rule::softmax, 0.8);
  Selected found = select_on_gpu(layout, Rule::softmax, 0.8, scores);
  EXPECT_EQ(differences(wanted, found.mask.data()), 0);
  found.mask[1234] ^= 1;
  EXPECT_EQ(differences(wanted, found.mask.data()), 1);

  const std::vector<float> backwards(scores.rbegin(), scores.rend());
  Selected reversed = select_on_gpu(layout, Rule::softmax, 0.8, backwards);
  std::reverse(reversed.mask.begin(), reversed.mask.end());
  EXPECT_GT(differences(wanted, reversed.mask.data()), 0);
}

TEST_F(Selection, RefusesASparsityOutsideItsRange) {
  const Layout layout = map_layout(1, 4);
  EXPECT_THROW(select_on_gpu(layout, Rule::row, 1.0, std::vector<float>(16)), std::invalid_argument);
  EXPECT_THROW(select_on_gpu(layout, Rule::logits, std::nan(""), std::vector<float>(16)), std::invalid_argument);
}

}  // namespace
}  // namespace draft::gpu
