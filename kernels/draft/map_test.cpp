#include <cmath>

#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {
namespace {

using DraftMaps = GpuTest;

using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::vector<float> normal_floats(std::size_t size, std::uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

Matrix widened(const std::vector<float>& values, Index head, Index rows, Index columns) {
  return Eigen::Map<const FloatMatrix>(values.data() + head * rows * columns, rows, columns).cast<double>();
}

std::vector<float> logits_on_gpu(const Layout& layout, const std::vector<float>& q, const std::vector<float>& k) {
  const DeviceBuffer<float> device_q{std::span(q)}, device_k{std::span(k)};
  const Guarded<float> logits(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  const Stream stream;
  draft_logits(layout, device_q.data(), device_k.data(), logits.data(), stream.get());
  stream.wait();
  return logits.read();
}

std::vector<float> softmax_on_gpu(const Layout& layout, float scale, const std::vector<float>& logits) {
  const DeviceBuffer<float> from{std::span(logits)};
  const Guarded<float> to(logits.size());
  const Stream stream;
  softmax_rows(layout, scale, from.data(), to.data(), stream.get());
  stream.wait();
  return to.read();
}

// Given pooled rows, claim: S~ is their product in fp32. Tolerance: head_dim roundings of sum |q||k|. Negative control:
// a product with one side cut to TF32's 11 bits is outside the tolerance.
TEST_F(DraftMaps, LogitsAreFp32ProductsWithoutTF32) {
  for (const int dim : {64, 128}) {
    for (const int regions : {1, 7, 240, 990}) {
      Layout layout = map_layout(2, regions);
      layout.head_dim = dim;
      const auto size = static_cast<std::size_t>(layout.heads * regions * dim);
      const std::vector<float> q = normal_floats(size, 1, 1.0F), k = normal_floats(size, 2, 1.0F);
      const std::vector<float> found = logits_on_gpu(layout, q, k);
      EXPECT_EQ(logits_on_gpu(layout, q, k), found) << "runs differ";
      double worst = 0.0, worst_tf32 = 0.0;
      for (int head = 0; head < layout.heads; ++head) {
        const Matrix wide_q = widened(q, head, regions, dim), wide_k = widened(k, head, regions, dim);
        const Matrix tolerance = 2.0 * kRoundoff * dim * (wide_q.cwiseAbs() * wide_k.cwiseAbs().transpose());
        const Matrix s = widened(found, head, regions, regions);
        const Matrix short_q = wide_q.unaryExpr([](double x) {
          int exponent = 0;
          const double mantissa = std::frexp(x, &exponent);
          return std::ldexp(std::trunc(mantissa * 2048.0) / 2048.0, exponent);
        });
        const Matrix error = (s - wide_q * wide_k.transpose()).cwiseAbs().cwiseQuotient(tolerance);
        const Matrix error_tf32 = (s - short_q * wide_k.transpose()).cwiseAbs().cwiseQuotient(tolerance);
        EXPECT_FALSE(error.hasNaN());
        worst = std::max(worst, error.maxCoeff());
        worst_tf32 = std::max(worst_tf32, error_tf32.maxCoeff());
      }
      EXPECT_LE(worst, 1.0) << regions << " regions, head_dim " << dim;
      if (regions > 1) {
        EXPECT_GT(worst_tf32, 1.0) << "the check would let TF32 pass";
      }
    }
  }
}

// Given fp32 logits, claim: rows are their softmax. Tolerance, with T the row's largest |scale (s - max)|: the exponent
// has an error of 2 roundings of T, expf of 2 ulp (4 roundings); the sum has both errors again and one rounding for
// each level of additions; the division adds 1. Below fp32's normal range an error of 2 denormal steps is allowed.
TEST_F(DraftMaps, SoftmaxIsTheReferencesRowByRow) {
  for (const int regions : {1, 2, 31, 240, 990, 1025, 4100}) {
    const Layout layout = map_layout(regions > 1000 ? 1 : 3, regions);
    for (const float scale : {0.08838834764F, 1.0F, 12.0F}) {
      std::vector<float> logits = normal_floats(static_cast<std::size_t>(layout.map_offset(layout.heads)), 9, 4.0F);
      if (regions > 2) logits[1] = -std::numeric_limits<float>::infinity();
      const std::vector<float> found = softmax_on_gpu(layout, scale, logits);
      const double additions = (regions + 255) / 256 + 5 + 8;
      for (int head = 0; head < layout.heads; ++head) {
        const Matrix wanted =
            DraftMap{widened(logits, head, regions, regions), static_cast<double>(scale)}.probabilities();
        const Matrix s = widened(logits, head, regions, regions), p = widened(found, head, regions, regions);
        for (Index row = 0; row < regions; ++row) {
          const double highest = s.row(row).maxCoeff();
          double farthest = 0.0;  // -infinity is exact: its exponential is 0 on both sides
          for (Index c = 0; c < regions; ++c) {
            if (std::isfinite(s(row, c))) farthest = std::max(farthest, scale * (highest - s(row, c)));
          }
          const double share = kRoundoff * (2.0 * (2.0 * std::min(farthest, 110.0) + 4.0) + additions + 1.0) * 1.01;
          const double excess = ((p.row(row) - wanted.row(row)).cwiseAbs() - share * wanted.row(row)).maxCoeff();
          EXPECT_FALSE(p.row(row).hasNaN());
          EXPECT_LE(excess, 2.0 * std::numeric_limits<float>::denorm_min()) << regions << " regions, row " << row;
        }
      }
    }
  }
}

TEST_F(DraftMaps, SoftmaxInPlaceIsTheSameBits) {
  const Layout layout = map_layout(3, 990);
  const std::vector<float> logits = normal_floats(static_cast<std::size_t>(layout.map_offset(3)), 4, 5.0F);
  const std::vector<float> wanted = softmax_on_gpu(layout, 0.5F, logits);
  const DeviceBuffer<float> map{std::span(logits)};
  const Stream stream;
  softmax_rows(layout, 0.5F, map.data(), map.data(), stream.get());
  stream.wait();
  EXPECT_EQ(map.download(), wanted);
  EXPECT_NE(wanted, logits);
}

std::vector<float> probabilities_on_gpu(const Layout& layout, float scale, const std::vector<float>& q,
                                        const std::vector<float>& k) {
  const DeviceBuffer<float> device_q{std::span(q)}, device_k{std::span(k)};
  const Guarded<float> probabilities(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  const Stream stream;
  draft_probabilities(layout, scale, device_q.data(), device_k.data(), probabilities.data(), stream.get());
  stream.wait();
  return probabilities.read();
}

// Given pooled rows, claim: draft_probabilities is the softmax of their product, in one kernel (up to 1,024 regions on
// sm_90) and in two. Tolerance: the error of a logit, times scale, enters a probability at most twice, by its own
// exponential and by the sum; the rest as above, but with 3 roundings of the exponent, a second exponential, and 34
// more additions where parts of a row are combined. Negative control: a scale that is wrong by 2^-10.
TEST_F(DraftMaps, ProbabilitiesAreTheReferencesInOneKernelOrTwo) {
  constexpr float kScale = 0.08838834764F;
  for (const int regions : {1, 7, 129, 630, 990, 1024, 1025}) {
    for (const int dim : {64, 128}) {
      Layout layout = map_layout(2, regions);
      layout.head_dim = dim;
      const auto size = static_cast<std::size_t>(layout.heads * regions * dim);
      const std::vector<float> q = normal_floats(size, 1, 2.0F), k = normal_floats(size, 2, 2.0F);
      const std::vector<float> found = probabilities_on_gpu(layout, kScale, q, k);
      EXPECT_EQ(probabilities_on_gpu(layout, kScale, q, k), found) << "runs differ";
      double worst = 0.0, worst_control = 0.0;
      for (int head = 0; head < layout.heads; ++head) {
        const Matrix wide_q = widened(q, head, regions, dim), wide_k = widened(k, head, regions, dim);
        const Matrix s = wide_q * wide_k.transpose();
        const Matrix error = 2.0 * kRoundoff * dim * kScale * (wide_q.cwiseAbs() * wide_k.cwiseAbs().transpose());
        const Matrix wanted = DraftMap{s, kScale}.probabilities();
        const Matrix control = DraftMap{s, kScale * (1.0 + 0x1p-10)}.probabilities();
        const Matrix p = widened(found, head, regions, regions);
        for (Index row = 0; row < regions; ++row) {
          const double range = kScale * (s.row(row).maxCoeff() - s.row(row).minCoeff());
          const double additions = (regions + 255) / 256 + 13 + 34;
          const double share =
              1.01 * (2.0 * error.row(row).maxCoeff() + kRoundoff * (3.0 * (3.0 * range + 4.0) + additions + 2.0));
          const auto shares_of_tolerance = [&](const Matrix& other) {
            return ((other - wanted).row(row).cwiseAbs().array() / (share * wanted.row(row)).array()).maxCoeff();
          };
          EXPECT_FALSE(p.row(row).hasNaN());
          worst = std::max(worst, shares_of_tolerance(p));
          worst_control = std::max(worst_control, shares_of_tolerance(control));
        }
      }
      EXPECT_LE(worst, 1.0) << regions << " regions, head_dim " << dim;
      if (regions > 1) {
        EXPECT_GT(worst_control, 1.0) << "the check would let another scale pass";
      }
    }
  }
}

TEST_F(DraftMaps, ARowThatIsNotFiniteIsNaNAndNoOtherRow) {
  Layout layout = map_layout(1, 990);
  layout.head_dim = 128;
  std::vector<float> q = normal_floats(990 * 128, 1, 1.0F);
  const std::vector<float> k = normal_floats(990 * 128, 2, 1.0F);
  q[200 * 128 + 5] = std::numeric_limits<float>::infinity();
  q[700 * 128] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> found = probabilities_on_gpu(layout, 0.1F, q, k);
  for (int row = 0; row < 990; ++row) {
    const bool wanted = row == 200 || row == 700;
    for (int column = 0; column < 990; ++column) ASSERT_EQ(std::isnan(found[row * 990 + column]), wanted) << row;
  }
}

// Given tokens, claim: pool, logits and selection together give the reference's mask, except for blocks whose reference
// score is closer to the threshold than twice the scores' error: there fp32 may order two blocks differently. The
// error: pooling and product round by at most (2 n + head_dim + 2) 2^-24 of pool|q| pool|k|, n the tokens of a region.
TEST_F(DraftMaps, MasksFromTokensDifferOnlyWithinTheScoresError) {
  const Layout layout{.heads = 2, .frames = 3, .height = 30, .width = 52, .text = 77};
  const Tensor q = random_tensor(layout, Element::bfloat16, 21, 0.3);
  const Tensor k = random_tensor(layout, Element::bfloat16, 22, 0.1);
  const DeviceBuffer<std::uint16_t> device_q{std::span(q.bits)}, device_k{std::span(k.bits)};
  const auto rows = static_cast<std::size_t>(layout.heads) * layout.regions() * layout.head_dim;
  const Guarded<float> pooled_q(rows), pooled_k(rows);
  const Stream stream;
  pool(layout, Element::bfloat16, Pool::average, device_q.data(), pooled_q.data(), stream.get());
  pool(layout, Element::bfloat16, Pool::average, device_k.data(), pooled_k.data(), stream.get());
  stream.wait();
  const std::vector<float> scores = logits_on_gpu(layout, pooled_q.read(), pooled_k.read());
  const Partition partition = partition_of(layout);
  const Selected found = select_on_gpu(layout, Rule::logits, 0.8, scores);
  for (int head = 0; head < layout.heads; ++head) {
    const Problem problem{grid_of(layout), q.heads[head], k.heads[head], k.heads[head], 1.0, "test"};
    const DraftMap map = draft_scores(problem, partition, Pool::average);
    const BlockMask wanted = select(map, Rule::logits, 0.8);
    const Matrix magnitude = draft::pool_regions(problem.q.cwiseAbs(), partition, Pool::average) *
                             draft::pool_regions(problem.k.cwiseAbs(), partition, Pool::average).transpose();
    const double error = kRoundoff * (2.0 * layout.region_tokens() + layout.head_dim + 2.0) * magnitude.maxCoeff();
    double threshold = std::numeric_limits<double>::infinity(), widest = 0.0;
    for (Index i = 0; i < layout.regions(); ++i) {
      for (Index j = 0; j < layout.regions(); ++j) {
        if (wanted.kept(i, j)) threshold = std::min(threshold, map.logits(i, j));
      }
    }
    for (Index i = 0; i < layout.regions(); ++i) {
      for (Index j = 0; j < layout.regions(); ++j) {
        const std::size_t at = static_cast<std::size_t>(layout.map_offset(head) + i * layout.regions() + j);
        if (wanted.kept(i, j) != (found.mask[at] != 0)) {
          widest = std::max(widest, std::abs(map.logits(i, j) - threshold));
        }
      }
    }
    EXPECT_LE(widest, 2.0 * error);
    EXPECT_LT(error, 1e-3 * (map.logits.maxCoeff() - map.logits.minCoeff())) << "the tolerance would hide a wrong mask";
  }
}

}  // namespace
}  // namespace draft::gpu
