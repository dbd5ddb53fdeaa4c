#pragma once
// One verification: runs the kernels on groups of heads, which ranks share, keeps the rows that are judged, judges them
// head by head.

#include <string>
#include <vector>

#include "experiments/input/heads.hpp"
#include "experiments/verify/kernels.hpp"
#include "experiments/verify/verify.hpp"
#include "harness/ranks/ranks.hpp"
#include "reference/rounding/kernel_error.hpp"

namespace draft {

/// One kernel in one token order on one case: what is kept of it once the GPU has gone on.
struct JudgedRun {
  std::size_t the_case;
  std::string kernel;
  Arithmetic arithmetic;
  bool region_order;
  std::string unsupported;
  std::size_t guard_bytes, unwritten;
  bool repeats;
  std::vector<std::vector<std::uint16_t>> o;  // [heads][judged rows * head_dim], by judged block
  std::vector<std::vector<float>> lse;        // [heads][judged rows]
};

/// A case's masks and the block rows that are judged, by head.
struct JudgedCase {
  std::vector<BlockMask> masks;
  std::vector<std::vector<Index>> blocks;
  std::vector<PooledRows> pooled;  // empty: no remainder
};

class Verification {
 public:
  /// Throws UsageError as verify().
  Verification(const VerifyOptions& options, const std::vector<gpu::AttentionKernel>& kernels, Ranks& ranks);

  /// On the first rank: every record of this run, in the order of its heads, also appended to options.out.
  std::vector<Json> run();

 private:
  [[nodiscard]] Problem rounded_head(const HeadTask& task) const;
  /// Heads of one call, the unit; their records are delivered head by head.
  void group(std::size_t unit, const std::vector<HeadTask>& tasks, SharedWork& units);
  void run_kernels(const std::vector<HeadTask>& tasks, std::vector<JudgedCase>& judged, std::vector<JudgedRun>& runs);
  void judge_head(const HeadTask& task, std::size_t head, const std::vector<JudgedCase>& judged,
                  const std::vector<JudgedRun>& runs, std::vector<Json>& records);
  [[nodiscard]] Json record(const HeadTask& task, const JudgedRun& run, const BlockMask& mask,
                            const std::vector<Index>& blocks, const std::vector<RowsTruth>& rows,
                            std::size_t head) const;
  [[nodiscard]] KernelError judge(const JudgedRun& run, std::size_t head, const std::vector<Index>& blocks,
                                  const std::vector<RowsTruth>& rows) const;

  const VerifyOptions& options_;
  Ranks& ranks_;
  Dump dump_;
  std::vector<gpu::AttentionKernel> kernels_;
  std::vector<MaskChoice> cases_;
  Element element_;
  std::string sha256_;
  RecordLog log_;
};

}  // namespace draft
