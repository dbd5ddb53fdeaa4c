#pragma once
// One run of `overhead`: the parts of each group, and their records.

#include <memory>
#include <string>
#include <vector>

#include "experiments/timing/overhead.hpp"
#include "experiments/timing/run.hpp"

namespace draft {

class OverheadRun {
 public:
  /// Throws UsageError as overhead().
  OverheadRun(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels);

  /// Everything that is not done yet.
  const TimedRun& run();

 private:
  /// Parts that are timed together: of one kernel and draft mask.
  struct Group {
    gpu::AttentionKernel kernel;
    MaskChoice mask;
  };
  /// A part of a group; it stands for nothing but itself where `why` says that the kernel cannot do it.
  struct Part {
    const char* name;
    TokenOrder order;
    DeviceCall::Work work;
    std::string why;
  };

  [[nodiscard]] std::vector<gpu::AttentionKernel> fitting_kernels();
  void time(const Group& group, const gpu::MaskPipeline& pipeline);
  [[nodiscard]] std::vector<Part> parts(const Group& group, const gpu::MaskPipeline& pipeline,
                                        const DeviceLists& lists);
  void record(const Group& group, const std::vector<Part>& parts, const std::vector<Json>& configs,
              const KeptCounts& counts, const std::vector<WorkTimes>& times);

  const TimedOptions& options_;
  TimedRun run_;
};

}  // namespace draft
