// The first sweep against the float64 reference: statistics of S by block, block mass, log-sum-exp, deviations.
#include "kernels/sweep/test_sweeps.hpp"
#include "kernels/sweep/tolerance.hpp"
#include "reference/bounds/logit_sweep.hpp"
#include "reference/naive.hpp"

namespace draft::gpu {
namespace {

using LogitSweeps = GpuTest;

struct Found {
  std::vector<double> minimum, maximum, mean, centred_square, mass, text_mass, lse;
  bool operator==(const Found&) const = default;
};

Found run(const SweepSetup& setup, bool with_stats = true) {
  const Layout& layout = setup.layout;
  const auto heads = static_cast<std::size_t>(layout.heads), regions = static_cast<std::size_t>(layout.regions());
  const std::size_t blocks = heads * regions * regions;
  const Guarded<double> minimum(blocks), maximum(blocks), mean(blocks), centred(blocks), mass(blocks),
      text_mass(heads * regions), lse(heads * static_cast<std::size_t>(layout.video()));
  const Guarded<std::uint8_t> scratch(logit_sweep_scratch(layout));
  const Stream stream;
  const BlockMass out{mass.data(), text_mass.data(), lse.data()};
  if (with_stats) {
    sweep_logits(setup.call(), scratch.data(), out, {minimum.data(), maximum.data(), mean.data(), centred.data()},
                 stream.get());
  } else {
    block_mass(setup.call(), scratch.data(), out, stream.get());
  }
  stream.wait();
  (void)scratch.read();  // for its guards
  Found found{{}, {}, {}, {}, mass.read(), text_mass.read(), lse.read()};
  if (with_stats) {
    found.minimum = minimum.read();
    found.maximum = maximum.read();
    found.mean = mean.read();
    found.centred_square = centred.read();
  }
  return found;
}

double worst_ratio(const SweepSetup& setup, const Found& found, Exact exact = Exact::nothing) {
  const Layout& layout = setup.layout;
  const Partition partition = partition_of(layout);
  const Index regions = partition.regions();
  Worst worst;
  for (std::size_t head = 0; head < setup.problems.size(); ++head) {
    const Problem& problem = setup.problems[head];
    const SweepTolerance allowed(problem, exact);
    const LogitStats wanted = sweep_logits(Stripes(problem, partition), {}, 0);
    for (Index i = 0; i < regions; ++i) {
      for (Index j = 0; j < regions; ++j) {
        const std::size_t block =
            (head * static_cast<std::size_t>(regions) + i) * static_cast<std::size_t>(regions) + j;
        const double mass = wanted.mass(i, j);
        worst.add(found.mass[block], mass, allowed.weight * mass + kVanished);
        if (found.mean.empty()) continue;
        worst.add(found.minimum[block], wanted.minimum(i, j), allowed.logit + kVanished);
        worst.add(found.maximum[block], wanted.maximum(i, j), allowed.logit + kVanished);
        worst.add(found.mean[block], wanted.mean(i, j), allowed.mean + kVanished);
        // Tolerance of a sum of squares about the mean: its root may move by the error of a mean in each entry;
        // rounding of sums of 32 entries, 5 steps within a warp and one step for each tile.
        const auto count = static_cast<double>(partition.size(i) * partition.size(j));
        const double root = std::sqrt(wanted.centred_square(i, j)), shift = std::sqrt(count) * allowed.mean;
        const double rounding = (64.0 + 4.0 * static_cast<double>(partition.size(j)) / 64.0) * kRoundoff;
        worst.add(found.centred_square[block], root * root,
                  shift * (2.0 * root + shift) + rounding * root * root + kVanished);
      }
      worst.add(found.text_mass[head * static_cast<std::size_t>(regions) + i], wanted.text_mass[i],
                allowed.weight * wanted.text_mass[i] + kVanished);
    }
    for (Index row = 0; row < problem.grid.video(); ++row) {
      const std::size_t token = head * static_cast<std::size_t>(layout.video()) + partition.order()[row];
      worst.add(found.lse[token], wanted.lse[row], allowed.weight);
    }
  }
  return worst.ratio();
}

// Claim: every statistic agrees with the reference's on ragged grids, with text, for regions of 1 to 4,096 tokens and
// both element types; and block_mass() gives the same masses, bit for bit.
TEST_F(LogitSweeps, AreTheReferencesOnEveryLayout) {
  for (const Layout& layout : sweep_layouts()) {
    for (const Element element : kSweptElements) {
      const SweepSetup setup = random_setup(layout, element, 11);
      const Found found = run(setup), alone = run(setup, false);
      EXPECT_LE(worst_ratio(setup, found), 1.0) << name_of(layout, element);
      EXPECT_EQ(alone.mass, found.mass) << name_of(layout, element);
      EXPECT_EQ(alone.text_mass, found.text_mass);
      EXPECT_EQ(alone.lse, found.lse);
    }
  }
}

// Claim: row_masses() has the mass of each row in each block, on the same layouts, and log-sum-exp bit for bit.
TEST_F(LogitSweeps, RowMassesAreTheReferences) {
  for (const Layout& layout : sweep_layouts()) {
    for (const Element element : kSweptElements) {
      const SweepSetup setup = random_setup(layout, element, 19);
      const auto heads = static_cast<std::size_t>(layout.heads), video = static_cast<std::size_t>(layout.video());
      const auto regions = static_cast<std::size_t>(layout.regions());
      const Guarded<std::uint8_t> scratch(logit_sweep_scratch(layout));
      const Guarded<double> lse(heads * video);
      const Guarded<float> masses(heads * video * regions);
      const Stream stream;
      row_masses(setup.call(), scratch.data(), lse.data(), masses.data(), stream.get());
      stream.wait();
      (void)scratch.read();  // for its guards
      const std::vector<float> found = masses.read();
      EXPECT_EQ(lse.read(), run(setup, false).lse) << name_of(layout, element);
      const Partition partition = partition_of(layout);
      Worst worst;
      for (std::size_t head = 0; head < heads; ++head) {
        const Problem& problem = setup.problems[head];
        const Stripes stripes(problem, partition);
        const LogSums lse_wanted = sweep_logits(stripes, {}, 0).lse;
        const double allowed = SweepTolerance(problem).weight + kRoundoff;  // and that of storage in fp32
        for (Index i = 0; i < partition.regions(); ++i) {
          Matrix logits;
          stripes.logits(partition.offset(i), partition.size(i), 0, problem.grid.tokens(), logits);
          for (Index row = 0; row < partition.size(i); ++row) {
            const Index u = partition.offset(i) + row;
            const Eigen::RowVectorXd p =
                (problem.scale * (logits.row(row).array() - lse_wanted.highest[u]) - lse_wanted.rest[u]).exp();
            const auto token = static_cast<std::size_t>(partition.order()[static_cast<std::size_t>(u)]);
            for (std::size_t j = 0; j < regions; ++j) {
              const auto column = static_cast<Index>(j);
              const double wanted = p.segment(partition.offset(column), partition.size(column)).sum();
              worst.add(found[(head * video + token) * regions + j], wanted, allowed * wanted + kVanished);
            }
          }
        }
      }
      EXPECT_LE(worst.ratio(), 1.0) << name_of(layout, element);
    }
  }
}

// Given logits of about -9 head_dim everywhere, claim: padding is in no sum. Its logit 0 would outweigh all others.
TEST_F(LogitSweeps, PaddingIsLeftOutWhereAllLogitsAreStronglyNegative) {
  for (const int region_width : {4, 16}) {
    const Layout layout{
        .heads = 2, .frames = 2, .height = 9, .width = 17, .text = 77, .head_dim = 128, .region_width = region_width};
    const SweepSetup setup = random_setup(layout, Element::bfloat16, 13, 3.0);
    EXPECT_LE(worst_ratio(setup, run(setup)), 1.0);
  }
}

// Given logits 8,128 + 8 {-1, 0, 1}, exact in fp32, claim: sums of squares about the mean are right. Computed as the
// difference of two large sums they would not be: the rounding of S^2 alone is 4.
TEST_F(LogitSweeps, NearlyConstantLogitsKeepTheirSpread) {
  const Layout layout{.heads = 1, .frames = 2, .height = 17, .width = 33, .text = 5, .head_dim = 128};
  const auto constant = [&](double value) {
    Tensor tensor = random_tensor(layout, Element::float16, 1);
    tensor.heads[0].setConstant(value);
    return tensor;
  };
  Tensor q = constant(8.0), k = constant(8.0), v = random_tensor(layout, Element::float16, 2);
  for (Index row = 0; row < k.heads[0].rows(); ++row)
    k.heads[0](row, 0) = static_cast<double>(row * row % 3 + row % 2 - 1);
  encode_exactly(q, Element::float16);
  encode_exactly(k, Element::float16);
  const SweepSetup setup(layout, Element::float16, q, k, v, 1.0 / 64.0);
  const Found found = run(setup);
  EXPECT_LE(worst_ratio(setup, found, Exact::logits), 1.0);
  EXPECT_GT(*std::max_element(found.centred_square.begin(), found.centred_square.end()), 1000.0);
}

// Given logits of 0, but X up to 1e5 in one block of four (exact in fp32), claim: statistics and masses agree with the
// reference's, masses down to where weights underflow in fp32.
TEST_F(LogitSweeps, OneBlockHoldsAllTheMass) {
  const Layout layout{.heads = 1,
                      .frames = 4,
                      .height = 1,
                      .width = 16,
                      .text = 0,
                      .head_dim = 64,
                      .region_height = 1,
                      .region_width = 16};
  for (const Element element : kSweptElements) {
    for (const double logit : {0.0, 1.0, 40.0, 354.0, 700.0, 1024.0, 32768.0, 98304.0}) {
      const Problem problem = naive::one_block_holds_all(grid_of(layout), layout.head_dim, logit);
      Tensor q{{}, {problem.q}}, k{{}, {problem.k}};
      encode_exactly(q, element);
      encode_exactly(k, element);
      const SweepSetup setup(layout, element, q, k, random_tensor(layout, element, 3), 1.0);
      EXPECT_LE(worst_ratio(setup, run(setup), Exact::logits), 1.0) << "logit " << logit;
    }
  }
}

TEST_F(LogitSweeps, RunsAreBitIdentical) {
  const SweepSetup setup = random_setup(
      {.heads = 2, .frames = 3, .height = 30, .width = 52, .text = 77, .head_dim = 128}, Element::bfloat16, 7);
  const Found first = run(setup);
  for (int repeat = 0; repeat < 10; ++repeat) ASSERT_TRUE(run(setup) == first);
}

// Claim: quantiles of |S_uv - S~_ij| agree with the reference's to a bin's width, and every pair is counted.
TEST_F(LogitSweeps, DeviationsAreTheReferences) {
  for (const Layout& layout : sweep_layouts()) {
    for (const Element element : kSweptElements) {
      const SweepSetup setup = random_setup(layout, element, 17);
      const Partition partition = partition_of(layout);
      std::vector<float> pooled, largest;
      std::vector<LogitStats> wanted;
      for (const Problem& problem : setup.problems) {
        DeviationRequest request{draft_scores(problem, partition, Pool::average).logits, parents(partition, partition)};
        for (double& centre : request.pooled_logits.reshaped())
          centre = static_cast<double>(static_cast<float>(centre));
        for (Index i = 0; i < request.pooled_logits.size(); ++i) {
          pooled.push_back(static_cast<float>(request.pooled_logits.data()[i]));
        }
        wanted.push_back(sweep_logits(Stripes(problem, partition), std::span(&request, 1), 0));
        largest.push_back(static_cast<float>(wanted.back().deviations[0].quantile(1.0)));
      }
      const std::vector<std::uint64_t> zeros(setup.problems.size() * kDeviationBins, 0);
      DeviceBuffer<std::uint64_t> counts{std::span(zeros)};
      const DeviceBuffer<float> device_pooled{std::span<const float>(pooled)}, bound{std::span<const float>(largest)};
      check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      const Stream stream;
      sweep_deviations(setup.call(), device_pooled.data(), bound.data(), counts.data(), stream.get());
      stream.wait();
      const std::vector<std::uint64_t> found = counts.download();
      for (std::size_t head = 0; head < wanted.size(); ++head) {
        LogHistogram histogram;
        std::uint64_t total = 0;
        for (int bin = 0; bin < kDeviationBins; ++bin) {
          const std::uint64_t count = found[head * kDeviationBins + static_cast<std::size_t>(bin)];
          histogram.add(static_cast<double>(deviation_edge(largest[head], bin)), count);
          total += count;
        }
        EXPECT_EQ(total, static_cast<std::uint64_t>(layout.video()) * static_cast<std::uint64_t>(layout.video()));
        const double rounding = SweepTolerance(setup.problems[head]).logit + 2.0 * kRoundoff * largest[head] +
                                static_cast<double>(deviation_edge(largest[head], 0));
        for (const double p : {0.01, 0.5, 0.9, 0.999, 1.0}) {
          const double exact = wanted[head].deviations[0].quantile(p);
          EXPECT_LE(std::abs(histogram.quantile(p) - exact), (exact + rounding) / 256.0 + rounding)
              << name_of(layout, element) << ", quantile " << p;
        }
      }
    }
  }
}

// Negative control: the check fails if one key's numbers are 5% larger, and if one sum of squares is wrong by 1%.
TEST_F(LogitSweeps, TheCheckCanFail) {
  SweepSetup setup = random_setup({.heads = 1, .frames = 2, .height = 16, .width = 32, .text = 5, .head_dim = 64},
                                  Element::float16, 9);
  Found found = run(setup);
  ASSERT_LE(worst_ratio(setup, found), 1.0);
  setup.problems[0].k.row(40) *= 1.05;
  EXPECT_GT(worst_ratio(setup, found), 1.0);
  setup.problems[0].k = setup.k.heads[0];
  found.centred_square[3] *= 1.01;
  EXPECT_GT(worst_ratio(setup, found), 1.0);
}

TEST_F(LogitSweeps, RefuseWhatTheyCannotDo) {
  SweepCall call{.layout = {.head_dim = 72}, .scale = 1.0};
  EXPECT_THROW(sweep_logits(call, nullptr, {}, {}, nullptr), std::invalid_argument);
  call.layout.head_dim = 64;
  EXPECT_THROW(sweep_logits(call, nullptr, {}, {}, nullptr), std::invalid_argument);  // null pointers
  call.scale = 0.0;
  EXPECT_THROW(sweep_deviations(call, nullptr, nullptr, nullptr, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace draft::gpu
