#pragma once
// One run of `overhead`: the parts of each group, and their records.

#include <memory>
#include <string>
#include <vector>

#include "experiments/device/call.hpp"
#include "experiments/timing/overhead.hpp"
#include "harness/timing/gpu_timing.hpp"
#include "harness/timing/matmul_rate.hpp"

namespace draft {

class OverheadRun {
 public:
  /// Throws UsageError as overhead().
  OverheadRun(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels);

  /// Every record of this run, also appended to options.out.
  const std::vector<Json>& run();
  /// Cells that options.out held already and that were not timed again.
  [[nodiscard]] Index done_before() const { return done_before_; }

 private:
  /// Parts that are timed together: of one kernel, region, pooling, rule and sparsity.
  struct Group {
    gpu::AttentionKernel kernel;
    RegionSize region;
    Pool pool;
    Rule rule;
    double sparsity;
  };
  /// A part of a group; it stands for nothing but itself where `why` says that the kernel cannot do it.
  struct Part {
    const char* name;
    TokenOrder order;
    GpuCall::Work work;
    std::string why;
  };

  void choose_kernel();
  void time(const Group& group, const gpu::MaskPipeline& pipeline);
  [[nodiscard]] std::vector<Part> parts(const Group& group, const gpu::MaskPipeline& pipeline,
                                        const DeviceLists& lists);
  void record(const Group& group, const std::vector<Part>& parts, const std::vector<Json>& configs,
              const KeptCounts& counts, const std::vector<WorkTimes>& times);
  void append(Json record);

  const TimedOptions& options_;
  std::vector<gpu::AttentionKernel> kernels_;
  CallSource source_;
  RecordLog log_;
  std::unique_ptr<GpuCall> call_;
  std::unique_ptr<MatmulMark> matmul_;
  double matmul_tflops_ = 0.0;  // of this run
  std::vector<Json> records_;
  Index done_before_ = 0;
};

}  // namespace draft
