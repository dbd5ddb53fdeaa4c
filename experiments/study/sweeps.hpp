#pragma once
// The two sweeps over a head's logits, on whatever device: what a study asks for and what it gets.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "experiments/study/slack.hpp"
#include "harness/numbers/half_tensor.hpp"

namespace draft {

/// A pooled map of one partition whose deviations |S_uv - S~_ij| are asked for.
struct MapRequest {
  std::size_t partition;  // index into load()'s
  const Matrix* logits;   // S~, unscaled, [regions, regions]
};

struct LogitSweep {
  std::vector<LogitStats> stats;         // [partition], over its regions; `lse` and `deviations` left out
  std::vector<LogHistogram> deviations;  // [request]
};

/// One head at a time: load, logits, masks. Scratch memory is kept from head to head.
class Sweeps {
 public:
  virtual ~Sweeps() = default;

  /// The head of the calls that follow; problem and partitions must stay where they are meanwhile. `half`: the same
  /// numbers as bits, which a GPU needs; may be null. `threads` as in parallel_for. Throws UsageError if the device
  /// cannot take the problem.
  virtual void load(const Problem& problem, const HalfHead* half, std::span<const Partition> partitions,
                    int threads) = 0;
  /// First sweep. Progress adds up to the video rows, here and below.
  virtual LogitSweep logits(std::span<const MapRequest> requests, const Progress& progress) = 0;
  /// Second sweep, after logits(), of families over load()'s partitions. Rows of the effects are in the order of
  /// row_region().
  virtual MaskSweep masks(std::vector<MaskFamily> families, const Progress& progress) = 0;

  /// The region of each row of masks(), [video].
  [[nodiscard]] virtual std::vector<Index> row_region(std::size_t partition) const = 0;
  /// What rounding may do to the loaded head's numbers.
  [[nodiscard]] virtual Slack slack() const = 0;
};

/// float64 on the CPU.
std::unique_ptr<Sweeps> make_reference_sweeps();
/// fp32 on the current CUDA device; only where there is one.
std::unique_ptr<Sweeps> make_gpu_sweeps();

/// For --device: "cpu" or "cuda". Throws UsageError if there is no such device.
std::unique_ptr<Sweeps> make_sweeps(const std::string& device);
/// The record's `kernel` of that device's sweeps.
std::string sweeps_name(const std::string& device);

}  // namespace draft
