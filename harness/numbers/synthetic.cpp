#include "harness/numbers/synthetic.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "reference/random.hpp"
#include "reference/regions.hpp"

namespace draft {
namespace {

// All amplitudes are powers of two and the normal numbers have 16 fraction bits. So sums and products of a few of them
// are exact in double, and do not depend on the compiler (on fused multiply-add, for instance).
constexpr double kSmoothNoise = 1.0 / 16.0;   // within a region, against 1 between regions
constexpr double kPeak = 4.0;                 // query = kPeak * its target key
constexpr double kNegativeOffset = 2.0;       // added to Q and subtracted from K
constexpr double kNegativeNoise = 1.0 / 4.0;  // normal numbers stay within 6: signs never flip
constexpr double kFocus = 1.0 / 2.0;          // query of a block row that prefers half of the keys
constexpr double kFocusNoise = 1.0 / 8.0;
constexpr Index kFocusedOneOf = 4;  // 1/4 of the rows x 1/2 of the columns holds 12.5% of the blocks

enum class Stream : std::uint64_t { query, key, value, region_query, region_key, target };

/// The numbers of one tensor of one head.
class SplitMix {
 public:
  SplitMix(std::uint64_t seed, Stream stream, Index head)
      : state_(splitmix_output(splitmix_output(splitmix_output(seed) + static_cast<std::uint64_t>(stream)) +
                               static_cast<std::uint64_t>(head))) {}

  std::uint64_t next() { return splitmix_output(state_ += kSplitMixStep); }

  /// Nearly normal: the centred sum of twelve 16-bit uniform numbers, variance 1, within 6, a multiple of 2^-16.
  double normal() {
    std::int64_t sum = 0;
    for (int word = 0; word < 3; ++word) {
      for (std::uint64_t bits = next(), part = 0; part < 4; ++part, bits >>= 16) sum += bits & 0xffff;
    }
    constexpr std::int64_t kMean = 12 * 0xffff / 2;
    return static_cast<double>(sum - kMean) / 65536.0;
  }

  Matrix normals(Index rows, Index cols) {
    Matrix numbers(rows, cols);
    for (Index i = 0; i < numbers.size(); ++i) numbers.data()[i] = normal();
    return numbers;
  }

 private:
  std::uint64_t state_;
};

/// Adds row `region_of(u)` of `centres` to each video row u.
void add_centres(Matrix& rows, const Matrix& centres, const std::vector<Index>& region_of) {
  for (std::size_t u = 0; u < region_of.size(); ++u) {
    rows.row(static_cast<Index>(u)) += centres.row(region_of[u]);
  }
}

void make_block_smooth(Problem& problem, const SyntheticSpec& spec, Index head, Index kv_head) {
  const Partition partition(spec.grid, RegionSize{});
  const std::vector<Index> region_of = partition.region_of_token();
  problem.q.topRows(spec.grid.video()) *= kSmoothNoise;
  problem.k.topRows(spec.grid.video()) *= kSmoothNoise;
  add_centres(problem.q, SplitMix(spec.seed, Stream::region_query, head).normals(partition.regions(), spec.head_dim),
              region_of);
  add_centres(problem.k, SplitMix(spec.seed, Stream::region_key, kv_head).normals(partition.regions(), spec.head_dim),
              region_of);
}

void make_peaked(Problem& problem, const SyntheticSpec& spec, Index head) {
  SplitMix target(spec.seed, Stream::target, head);
  const auto tokens = static_cast<std::uint64_t>(spec.grid.tokens());
  for (Index u = 0; u < problem.q.rows(); ++u) {
    problem.q.row(u) = kPeak * problem.k.row(static_cast<Index>(target.next() % tokens));
  }
}

void make_empty_rows(Problem& problem, const SyntheticSpec& spec) {
  const std::vector<Index> region_of = Partition(spec.grid, RegionSize{}).region_of_token();
  problem.q *= kFocusNoise;
  problem.k *= kFocusNoise;
  for (std::size_t u = 0; u < region_of.size(); ++u) {
    const auto row = static_cast<Index>(u);
    if (region_of[u] % kFocusedOneOf == 0) problem.q.row(row).array() += kFocus;
    problem.k.row(row).array() += region_of[u] % 2 == 0 ? 1.0 : -1.0;
  }
}

}  // namespace

const std::vector<SyntheticKind>& synthetic_kinds() {
  using enum SyntheticKind;
  static const std::vector<SyntheticKind> kinds = {block_smooth, iid, peaked, constant, adversarial, empty_rows};
  return kinds;
}

std::string to_string(SyntheticKind kind) {
  switch (kind) {
    case SyntheticKind::block_smooth: return "block-smooth";
    case SyntheticKind::iid: return "iid";
    case SyntheticKind::peaked: return "peaked";
    case SyntheticKind::constant: return "constant";
    case SyntheticKind::adversarial: return "adversarial";
    case SyntheticKind::empty_rows: return "empty-rows";
  }
  return "unknown";
}

SyntheticKind parse_synthetic_kind(const std::string& text) {
  std::vector<std::string> names;
  for (const SyntheticKind kind : synthetic_kinds()) {
    if (text == to_string(kind)) return kind;
    names.push_back(to_string(kind));
  }
  throw std::invalid_argument(fmt::format("kind: wanted one of {}, found '{}'", fmt::join(names, ", "), text));
}

Problem synthetic_head(const SyntheticSpec& spec, Index head) {
  require_valid(spec.grid);
  const Index tokens = spec.grid.tokens();
  const Index kv_head = head / (spec.heads / spec.kv_heads);
  Problem problem;
  problem.grid = spec.grid;
  problem.scale = 1.0 / std::sqrt(static_cast<double>(spec.head_dim));
  problem.source = fmt::format("synthetic {} seed {} head {}", to_string(spec.kind), spec.seed, head);
  problem.q = SplitMix(spec.seed, Stream::query, head).normals(tokens, spec.head_dim);
  problem.k = SplitMix(spec.seed, Stream::key, kv_head).normals(tokens, spec.head_dim);
  problem.v = SplitMix(spec.seed, Stream::value, kv_head).normals(tokens, spec.head_dim);
  switch (spec.kind) {
    case SyntheticKind::iid: break;
    case SyntheticKind::block_smooth: make_block_smooth(problem, spec, head, kv_head); break;
    case SyntheticKind::peaked: make_peaked(problem, spec, head); break;
    case SyntheticKind::empty_rows: make_empty_rows(problem, spec); break;
    case SyntheticKind::constant:
      for (Matrix* rows : {&problem.q, &problem.k, &problem.v}) {
        const Eigen::RowVectorXd first = rows->row(0);
        rows->rowwise() = first;
      }
      break;
    case SyntheticKind::adversarial:
      problem.q = (kNegativeNoise * problem.q).array() + kNegativeOffset;
      problem.k = (kNegativeNoise * problem.k).array() - kNegativeOffset;
      break;
  }
  return problem;
}

}  // namespace draft
