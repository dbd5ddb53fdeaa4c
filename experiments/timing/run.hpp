#pragma once
// What a run of a timing command consists of: the call, the cells that the file holds already, the machine's mark,
// times and records.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experiments/device/call.hpp"
#include "harness/record/record.hpp"
#include "harness/timing/gpu_timing.hpp"
#include "harness/timing/matmul_rate.hpp"

namespace draft {

class TimedRun {
 public:
  /// `experiment` is the records'. Throws UsageError as latency().
  TimedRun(const TimedOptions& options, std::string experiment, const std::vector<gpu::AttentionKernel>& kernels);

  [[nodiscard]] const CallSource& source() const { return source_; }
  /// Those that the options choose.
  [[nodiscard]] const std::vector<gpu::AttentionKernel>& kernels() const { return kernels_; }
  /// On the device from the first use on.
  DeviceCall& call();

  [[nodiscard]] bool holds(const Json& config);
  /// So many cells stood in the file already and are not timed again.
  void skip(Index cells) { done_before_ += cells; }
  [[nodiscard]] Index done_before() const { return done_before_; }

  /// Times of the works, in their order; the first time those of the machine's mark are taken among them. A sample
  /// lasts `sustain_ms` at least, if that is not 0. Throws gpu::Error if the mark fails.
  std::vector<WorkTimes> time(std::vector<TimedWork> works, double sustain_ms = 0.0);
  /// The mark of this run.
  [[nodiscard]] double matmul_tflops() const { return matmul_tflops_; }

  /// A record of this run without timing.
  [[nodiscard]] Json record(Json config, Json metrics = Json::object()) const;
  /// Adds what was timed to the record, and `flops`, or makes it a failure.
  static void add_times(Json& record, const WorkTimes& times, std::optional<double> flops);
  /// To options.out.
  void append(Json record);
  [[nodiscard]] const std::vector<Json>& records() const { return records_; }
  /// kExitCheckFailed if a record is a failure.
  [[nodiscard]] int status() const;

 private:
  const TimedOptions& options_;
  std::string experiment_;
  std::vector<gpu::AttentionKernel> kernels_;
  CallSource source_;
  RecordLog log_;
  std::unique_ptr<DeviceCall> call_;
  std::unique_ptr<MatmulMark> mark_;
  double matmul_tflops_ = 0.0;
  std::vector<Json> records_;
  Index done_before_ = 0;
};

}  // namespace draft
