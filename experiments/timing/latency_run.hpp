#pragma once
// One run of `latency`: masks, timed works and records of one call.

#include <memory>
#include <optional>
#include <vector>

#include "experiments/timing/latency.hpp"
#include "experiments/timing/run.hpp"

namespace draft {

class LatencyRun {
 public:
  /// Throws UsageError as latency().
  LatencyRun(const LatencyOptions& options, const std::vector<gpu::AttentionKernel>& kernels);

  /// Everything that is not done yet.
  const TimedRun& run();

 private:
  /// A mask on the device.
  struct Mask {
    MaskChoice choice;
    bool wanted = false;  // by a cell that is to be timed
    std::unique_ptr<DeviceLists> lists;
    KeptCounts counts;
    std::optional<std::size_t> draft_work;  // from pooling to lists
    std::optional<std::size_t> pool_work;   // the remainder's rows
  };
  /// A cell that is to be timed.
  struct Cell {
    const gpu::AttentionKernel* kernel;
    TokenOrder order;
    std::size_t mask;  // kDense: none
    Json config;
    std::size_t dense;                 // place of the dense cell that this one is compared with
    std::optional<std::size_t> plain;  // with a remainder: that of the cell without, if it is timed
    std::size_t work;
  };
  static constexpr std::size_t kDense = static_cast<std::size_t>(-1);

  void region(RegionSize region);
  std::vector<Cell> plan(RegionSize region, std::vector<Mask>& masks);
  static std::optional<std::size_t> plain_cell(const std::vector<Cell>& cells, const std::vector<Mask>& masks);
  void make_masks(std::vector<Mask>& masks, const gpu::MaskPipeline& pipeline);
  std::vector<WorkTimes> time(std::vector<Cell>& cells, std::vector<Mask>& masks, const gpu::MaskPipeline& pipeline);
  void record(RegionSize region, const std::vector<Cell>& cells, const std::vector<Mask>& masks,
              const std::vector<WorkTimes>& times);
  [[nodiscard]] Json compared(const Cell& cell, const KeptCounts& counts, RegionSize region,
                              const std::vector<Cell>& cells, const std::vector<Mask>& masks,
                              const std::vector<WorkTimes>& times) const;

  const LatencyOptions& options_;
  std::vector<TokenOrder> orders_;
  TimedRun run_;
};

}  // namespace draft
