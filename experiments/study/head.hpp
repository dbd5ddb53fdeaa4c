#pragma once
// One head, all its measured cells: plans the two sweeps so that every cell of every experiment comes
// out of the same logits, and turns what they return into the record format's metrics.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "experiments/input/masks.hpp"
#include "experiments/study/sweeps.hpp"
#include "harness/record/metric_value.hpp"

namespace draft {

/// One configuration to be measured on a head.
struct Cell : MaskChoice {
  bool with_bounds = false;    // both theorems' quantities too
  std::optional<Index> cut{};  // of the policy's ranking; else what the sparsity gives
  bool operator==(const Cell&) const = default;
};

/// Names as in the record format, in the order in which they are written.
using Metrics = std::vector<std::pair<std::string, MetricValue>>;
/// The named metric's number, or NaN if it is not there or not applicable.
double metric(const Metrics& metrics, const std::string& name);

class HeadStudy;

struct StudySettings {
  std::uint64_t seed = 1;    // random masks
  std::uint64_t stream = 0;  // which head: heads get different random masks
  int threads = 0;
  const Grid* grid = nullptr;          // the video's own where the problem's is a row of tokens; null: the problem's
  const Clusters* clusters = nullptr;  // the problem is in their order, its blocks are their pieces
  const HeadStudy* earlier = nullptr;  // the head at an earlier step, over the same regions, for policies that want it
  Progress progress{};                 // 2 x video rows in all (1 x if there is no cell)
  Sweeps* sweeps = nullptr;            // what measures, used in the constructor alone; null: the reference
  const HalfHead* half = nullptr;      // the problem's bits, likewise; null: not known
};

/// What one head's sweeps gave.
class HeadStudy {
 public:
  /// Runs both sweeps for all cells, of policies that share the problem's order of tokens; `extra_regions` get block
  /// statistics too, without a mask. Throws std::invalid_argument on a problem that is not valid or not measurable
  /// (reference/units.hpp), on a region that is not valid, UsageError on a head that the sweeps do not take.
  HeadStudy(const Problem& problem, std::vector<Cell> cells, const StudySettings& settings,
            const std::vector<RegionSize>& extra_regions = {});
  ~HeadStudy();

  /// Metrics of cells[i]. With bounds they hold check_* flags: 1 held, 0 violated. May be called from any thread.
  [[nodiscard]] Metrics metrics(std::size_t i) const;
  /// What choosing cells[i]'s blocks costs: choosing_flops_share, of the FLOPs of dense attention over the video, and
  /// choosing_bytes.
  [[nodiscard]] Metrics choice_metrics(std::size_t i) const;
  [[nodiscard]] const BlockMask& mask(std::size_t i) const;
  [[nodiscard]] const Partition& partition(RegionSize region) const;
  /// In units(), as is the map.
  [[nodiscard]] const LogitStats& stats(RegionSize region) const;
  [[nodiscard]] const DraftMap& map(RegionSize region, Pool pool);
  [[nodiscard]] Units units() const;
  /// What the cell's policy sees. The settings' pointers must still be good.
  [[nodiscard]] PolicyInput input(const Cell& cell);

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
};

}  // namespace draft
