// The second sweep against the float64 reference: what every mask of a family drops, and how far its output is off.
#include "kernels/sweep/test_sweeps.hpp"
#include "kernels/sweep/tolerance.hpp"
#include "reference/naive.hpp"

namespace draft::gpu {
namespace {

using MaskSweeps = GpuTest;

constexpr int kVectors = 4;  // dropped, kept, probs_error2, output_error2

struct Found {
  std::vector<double> dense;                // [heads, 4]
  std::vector<double> vectors[kVectors];    // [heads, masks, video]
  std::vector<double> sums;                 // [heads, masks, 3]
  std::vector<std::vector<double>> row_l1;  // [head][masks, rows]
  bool operator==(const Found&) const = default;
};

Found run(const SweepSetup& setup, const TestFamily& family) {
  const Layout& layout = setup.layout;
  const auto heads = static_cast<std::size_t>(layout.heads), video = static_cast<std::size_t>(layout.video());
  const auto regions = static_cast<std::size_t>(layout.regions()), masks = family.masks();
  std::vector<std::uint8_t> levels;
  for (const MaskFamily& head : family.heads) {
    const Levels own(head);
    levels.insert(levels.end(), own.level.begin(), own.level.end());
  }
  const DeviceBuffer<std::uint8_t> device_levels{std::span<const std::uint8_t>(levels)};
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  const NestedMasks nested{device_levels.data(), static_cast<int>(masks)};
  const DeviceBuffer<double> mass(heads * regions * regions), text_mass(heads * regions);
  const Guarded<double> lse(heads * video);
  const Guarded<float> dense(heads * video * static_cast<std::size_t>(layout.head_dim));
  const Guarded<double> dense_sums(heads * 4), dropped(heads * masks * video), kept(heads * masks * video),
      probs(heads * masks * video), output(heads * masks * video), sums(heads * masks * 3);
  const DeviceBuffer<std::uint8_t> logit_scratch(logit_sweep_scratch(layout)),
      sums_scratch(output_sums_scratch(layout));
  const Guarded<std::uint8_t> scratch(mask_sweep_scratch(layout, static_cast<int>(masks)));
  const Stream stream;
  const SweepCall call = setup.call();
  block_mass(call, logit_scratch.data(), {mass.data(), text_mass.data(), lse.data()}, stream.get());
  dense_output(call, dense.data(), stream.get());
  sum_outputs(layout, dense.data(), sums_scratch.data(), dense_sums.data(), stream.get());
  sweep_masks(call, lse.data(), dense.data(), nested, scratch.data(),
              {dropped.data(), kept.data(), probs.data(), output.data(), sums.data()}, stream.get());
  stream.wait();
  (void)scratch.read();  // for its guards
  (void)dense.read();
  Found found{dense_sums.read(), {dropped.read(), kept.read(), probs.read(), output.read()}, sums.read(), {}};
  const int rows = checked_rows(layout);
  for (int head = 0; head < layout.heads; ++head) {
    const Guarded<double> p(static_cast<std::size_t>(rows) * static_cast<std::size_t>(layout.tokens()));
    const Guarded<double> row_l1(masks * static_cast<std::size_t>(rows));
    checked_probabilities(call, head, 0, rows, p.data(), stream.get());
    check_rows(layout, nested, head, 0, rows, p.data(), row_l1.data(), stream.get());
    stream.wait();
    (void)p.read();
    found.row_l1.push_back(row_l1.read());
    checked_probabilities(call, head, rows - 1, 1, p.data(), stream.get());  // the last row on its own is the same
    check_rows(layout, nested, head, rows - 1, 1, p.data(), row_l1.data(), stream.get());
    stream.wait();
    const std::vector<double> last = row_l1.read();
    for (std::size_t m = 0; m < masks; ++m) {
      EXPECT_EQ(last[m], found.row_l1.back()[(m + 1) * static_cast<std::size_t>(rows) - 1]);
    }
  }
  return found;
}

double worst_ratio(const SweepSetup& setup, const TestFamily& family, const Found& found,
                   Exact exact = Exact::nothing) {
  const Layout& layout = setup.layout;
  const Partition partition = partition_of(layout);
  const auto video = static_cast<std::size_t>(layout.video()), masks = family.masks();
  const auto n = static_cast<double>(video), width = std::sqrt(static_cast<double>(layout.head_dim));
  const std::vector<std::vector<Index>> same{parents(partition, partition)};
  Worst worst;
  for (std::size_t head = 0; head < setup.problems.size(); ++head) {
    const Problem& problem = setup.problems[head];
    const SweepTolerance allowed(problem, exact);
    const double w = allowed.weight, e = allowed.output, longest = allowed.longest_value;
    const Stripes stripes(problem, partition);
    const MaskSweep wanted =
        sweep_masks(stripes, sweep_logits(stripes, {}, 0).lse, std::span(&family.heads[head], 1), same, 0);
    const double* dense = found.dense.data() + head * 4;
    worst.add(dense[0], wanted.dense.norm * wanted.dense.norm, n * (2.0 * longest * e + e * e));
    worst.add(dense[1], wanted.dense.absolute, n * width * e);
    worst.add(dense[2], wanted.dense.lowest, e);
    worst.add(dense[3], wanted.dense.highest, e);
    for (std::size_t m = 0; m < masks; ++m) {
      const MaskEffect& effect = wanted.effects[0][m];
      for (Index row = 0; row < problem.grid.video(); ++row) {
        const std::size_t at = (head * masks + m) * video + static_cast<std::size_t>(partition.order()[row]);
        worst.add(found.vectors[0][at], effect.dropped[row], w * effect.dropped[row] + kVanished);
        worst.add(found.vectors[1][at], effect.kept[row], w * effect.kept[row] + kVanished);
        // Terms are products of four weights or sums of weights, each with error w; a fifth w covers products of
        // errors.
        const double probs_error2 = effect.probs_error[row] * effect.probs_error[row];
        worst.add(found.vectors[2][at], probs_error2, 5.0 * w * probs_error2 + kVanished);
        const double error = effect.output_error[row];
        worst.add(found.vectors[3][at], error * error, 2.0 * error * e + e * e + 128.0 * kRoundoff * error * error);
      }
      const double* sums = found.sums.data() + (head * masks + m) * 3;
      worst.add(sums[0], effect.output_error1, n * width * e);
      worst.add(sums[1], effect.output_dot, n * (2.0 * longest * e + e * e));
      worst.add(sums[2], effect.output_norm * effect.output_norm, n * (2.0 * longest * e + e * e));
      // fp64 on both sides: logits have head_dim roundings, sums have n terms.
      const double m64 = problem.scale * problem.q.rowwise().norm().maxCoeff() * problem.k.rowwise().norm().maxCoeff();
      const double rounding =
          std::ldexp(1.0, -53) * 8.0 * (static_cast<double>(layout.head_dim) * m64 + layout.tokens());
      const std::size_t rows = static_cast<std::size_t>(checked_rows(layout));
      for (std::size_t r = 0; r < rows; ++r) {
        const Index row = partition.inverse()[r * kCheckedEvery];
        const BlockMask mask(family.heads[head].ranking, family.heads[head].cuts[m]);
        const Index region = partition.region_of_token()[r * kCheckedEvery];
        const bool keeps = problem.grid.text > 0 || !mask.columns(region).empty();
        const double l1 = keeps ? 2.0 * effect.dropped[row] : -1.0;
        worst.add(found.row_l1[head][m * rows + r], l1, rounding);
      }
    }
  }
  return worst.ratio();
}

// Claim: every effect agrees with the reference's on ragged grids, with text, for regions of 1 to 4,096 tokens and both
// element types: masks with empty rows, masks that keep all, many masks, and blocks that no mask keeps.
TEST_F(MaskSweeps, AreTheReferencesOnEveryLayout) {
  for (const Layout& layout : sweep_layouts()) {
    const std::vector<TestFamily> families{
        random_family(layout, "uneven rows", false, {0.02, 0.1, 0.5}),
        random_family(layout, "by row, up to all", true, {0.0, 0.3, 1.0}),
        random_family(layout, "many", false, {0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95})};
    for (const Element element : kSweptElements) {
      const SweepSetup setup = random_setup(layout, element, 23);
      for (const TestFamily& family : families) {
        EXPECT_LE(worst_ratio(setup, family, run(setup, family)), 1.0)
            << name_of(layout, element) << ", " << family.name;
      }
    }
  }
}

// Given logits of about -9 head_dim everywhere, claim: padding (logit 0) gets no weight, also in tiles of small blocks.
TEST_F(MaskSweeps, PaddingHasNoWeightWhereAllLogitsAreStronglyNegative) {
  for (const int region_width : {4, 16}) {
    const Layout layout{
        .heads = 1, .frames = 2, .height = 9, .width = 17, .text = 7, .head_dim = 128, .region_width = region_width};
    const SweepSetup setup = random_setup(layout, Element::bfloat16, 13, 3.0);
    const TestFamily family = random_family(layout, "uneven rows", false, {0.02, 0.5});
    EXPECT_LE(worst_ratio(setup, family, run(setup, family)), 1.0);
  }
}

// Given rows whose kept keys have logits 200 below the best, so that their mass of 1e-87 underflows in fp32, claim: the
// masked softmax is still that of the kept keys.
TEST_F(MaskSweeps, AVanishingKeptMassIsStillASoftmax) {
  const Layout layout{.heads = 1,
                      .frames = 2,
                      .height = 2,
                      .width = 4,
                      .text = 0,
                      .head_dim = 64,
                      .region_height = 2,
                      .region_width = 4};
  Tensor q = random_tensor(layout, Element::bfloat16, 1), k = random_tensor(layout, Element::bfloat16, 2);
  q.heads[0] *= 1.0 / 32.0;
  k.heads[0] *= 1.0 / 32.0;
  q.heads[0].col(0).setOnes();
  k.heads[0].col(0).head(8).setConstant(200.0);
  k.heads[0].col(0).tail(8).setZero();
  encode_exactly(q, Element::bfloat16);
  encode_exactly(k, Element::bfloat16);
  const SweepSetup setup(layout, Element::bfloat16, q, k, random_tensor(layout, Element::bfloat16, 3), 1.0);
  TestFamily family = random_family(layout, "all but the best block", false, {0.75});
  family.heads[0].ranking.rank = {3, 0, 1, 2};
  const Found found = run(setup, family);
  EXPECT_LE(worst_ratio(setup, family, found), 1.0);
  for (std::size_t row = 0; row < 8; ++row) {  // a softmax over 8 keys: its squares sum to at least 1/8
    EXPECT_GE(found.vectors[2][row], 8.0 / 64.0 + 8.0 / 64.0 - 0.01);
  }
}

// Given logits of 0, but X up to 1e5 in one block of four (exact in fp32), claim: every effect agrees with the
// reference's, whether the mask keeps the heavy block or only light ones, whose mass underflows even in fp64.
TEST_F(MaskSweeps, OneBlockHoldsAllTheMass) {
  const Layout layout{.heads = 1,
                      .frames = 4,
                      .height = 1,
                      .width = 16,
                      .text = 0,
                      .head_dim = 64,
                      .region_height = 1,
                      .region_width = 16};
  for (const Element element : kSweptElements) {
    for (const double logit : {1.0, 40.0, 200.0, 354.0, 512.0, 700.0, 768.0, 1024.0, 4096.0, 32768.0, 98304.0}) {
      const Problem problem = naive::one_block_holds_all(grid_of(layout), layout.head_dim, logit);
      Tensor q{{}, {problem.q}}, k{{}, {problem.k}};
      encode_exactly(q, element);
      encode_exactly(k, element);
      const SweepSetup setup(layout, element, q, k, random_tensor(layout, element, 3), 1.0);
      for (const bool by_row : {false, true}) {
        const TestFamily family = random_family(layout, "any", by_row, {0.25, 0.5, 0.75});
        const Found found = run(setup, family);
        EXPECT_LE(worst_ratio(setup, family, found, Exact::logits), 1.0) << "logit " << logit;
        for (const double kept : found.vectors[1]) EXPECT_LE(kept, 1.0 + 1e-6);
      }
    }
  }
}

// Given Q = K = 0, claim: the effects of uniform attention. Given V = 0, claim: every output and error is exactly 0.
TEST_F(MaskSweeps, Zeros) {
  const Layout layout{.heads = 1, .frames = 2, .height = 9, .width = 17, .text = 3, .head_dim = 64};
  for (const bool no_values : {false, true}) {
    Tensor tensors[3] = {random_tensor(layout, Element::bfloat16, 1), random_tensor(layout, Element::bfloat16, 2),
                         random_tensor(layout, Element::bfloat16, 3)};
    for (std::size_t i : no_values ? std::vector<std::size_t>{2} : std::vector<std::size_t>{0, 1}) {
      tensors[i].heads[0].setZero();
      encode_exactly(tensors[i], Element::bfloat16);
    }
    const SweepSetup setup(layout, Element::bfloat16, tensors[0], tensors[1], tensors[2], 0.125);
    const TestFamily family = random_family(layout, "uneven rows", false, {0.02, 0.1, 0.5});
    const Found found = run(setup, family);
    EXPECT_LE(worst_ratio(setup, family, found), 1.0);
    if (!no_values) continue;
    for (const double error : found.vectors[3]) EXPECT_EQ(error, 0.0);
    for (const double sum : found.sums) EXPECT_EQ(sum, 0.0);
  }
}

// Given whole numbers, a scale of ln 2 / 8 (so that S and the exponents are exact) and few keys, claim: P V is as
// accurate as P in two halves allows, for both element types. P in one half would be wrong by 2^-9.
TEST_F(MaskSweeps, SecondHalfOfPCounts) {
  const Layout layout{.heads = 1,
                      .frames = 3,
                      .height = 3,
                      .width = 4,
                      .text = 3,
                      .head_dim = 64,
                      .region_height = 2,
                      .region_width = 2};
  for (const Element element : kSweptElements) {
    Tensor tensors[3] = {random_tensor(layout, element, 1), random_tensor(layout, element, 2),
                         random_tensor(layout, element, 3)};
    for (Tensor* tensor : {&tensors[0], &tensors[1]}) {
      for (double& number : tensor->heads[0].reshaped()) number = std::round(number);
      encode_exactly(*tensor, element);
    }
    const SweepSetup setup(layout, element, tensors[0], tensors[1], tensors[2], std::log(2.0) / 8.0);
    const TestFamily family = random_family(layout, "uneven rows", false, {0.1, 0.4, 0.8});
    EXPECT_LE(worst_ratio(setup, family, run(setup, family), Exact::exponents), 1.0);
  }
}

TEST_F(MaskSweeps, RunsAreBitIdentical) {
  const Layout layout{.heads = 2, .frames = 2, .height = 30, .width = 52, .text = 77, .head_dim = 128};
  const SweepSetup setup = random_setup(layout, Element::bfloat16, 7);
  const TestFamily family = random_family(layout, "uneven rows", false, {0.02, 0.1, 0.5});
  const Found first = run(setup, family);
  for (int repeat = 0; repeat < 10; ++repeat) ASSERT_TRUE(run(setup, family) == first);
}

// Negative control: the check fails if one block's level is wrong, and if a row's dropped mass is wrong by 1%.
TEST_F(MaskSweeps, TheCheckCanFail) {
  const Layout layout{.heads = 1, .frames = 2, .height = 16, .width = 32, .text = 5, .head_dim = 64};
  const SweepSetup setup = random_setup(layout, Element::float16, 9);
  TestFamily family = random_family(layout, "uneven rows", false, {0.1, 0.5});
  Found found = run(setup, family);
  ASSERT_LE(worst_ratio(setup, family, found), 1.0);
  std::vector<std::uint32_t>& rank = family.heads[0].ranking.rank;
  std::swap(*std::find(rank.begin(), rank.end(), 0U), *std::find(rank.begin(), rank.end(), 63U));
  EXPECT_GT(worst_ratio(setup, family, found), 1.0);
  std::swap(*std::find(rank.begin(), rank.end(), 0U), *std::find(rank.begin(), rank.end(), 63U));
  ASSERT_LE(worst_ratio(setup, family, found), 1.0);
  found.vectors[0][100] *= 1.01;
  EXPECT_GT(worst_ratio(setup, family, found), 1.0);
}

TEST_F(MaskSweeps, RefuseWhatTheyCannotDo) {
  const SweepCall call{.layout = {.head_dim = 96}, .scale = 1.0};
  EXPECT_THROW(dense_output(call, nullptr, nullptr), std::invalid_argument);
  EXPECT_THROW(check_rows({}, {nullptr, 3}, 0, 0, 1, nullptr, nullptr, nullptr), std::invalid_argument);
  EXPECT_THROW(checked_probabilities(call, 0, 0, 1, nullptr, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace draft::gpu
