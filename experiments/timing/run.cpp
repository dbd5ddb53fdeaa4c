#include "experiments/timing/run.hpp"

#include <algorithm>
#include <utility>

#include "experiments/input/kernels.hpp"
#include "harness/progress.hpp"

namespace draft {

TimedRun::TimedRun(const TimedOptions& options, std::string experiment,
                   const std::vector<gpu::AttentionKernel>& kernels)
    : options_(options),
      experiment_(std::move(experiment)),
      kernels_(chosen_or_fused_kernels(options.kernels, kernels)),
      source_(CallSource::open(options)),
      log_(open_log(options)) {}

DeviceCall& TimedRun::call() {
  if (call_ == nullptr) call_ = std::make_unique<DeviceCall>(source_);
  return *call_;
}

bool TimedRun::holds(const Json& config) {
  return log_.contains({{"experiment", experiment_}, {"input", source_.input()}, {"config", config}});
}

std::vector<WorkTimes> TimedRun::time(std::vector<TimedWork> works, double sustain_ms) {
  const bool first = mark_ == nullptr;
  if (first) {
    mark_ = std::make_unique<MatmulMark>();
    works.push_back(mark_->work());
  }
  ProgressLine progress("timing", static_cast<Index>(works.size()) * options_.samples, options_.quiet);
  std::vector<WorkTimes> times =
      time_on_gpu(works, {options_.samples, options_.warmup, sustain_ms}, [&progress] { progress.advance(); });
  if (first) {
    if (!times.back().error.empty()) throw gpu::Error("matrix product: " + times.back().error);
    matmul_tflops_ = MatmulMark::tflops(times.back().median_ms());
    times.pop_back();
  }
  return times;
}

Json TimedRun::record(Json config, Json metrics) const {
  return make_record(experiment_, source_.input(), std::move(config), std::move(metrics));
}

void TimedRun::add_times(Json& record, const WorkTimes& times, std::optional<double> flops) {
  if (!times.error.empty()) {
    record["status"] = "failed";
    record["reason"] = times.error;
    return;
  }
  record["timing"] = timing_of(times, flops);
  add_gpu_state(times, record["machine"]);
}

void TimedRun::append(Json record) {
  records_.push_back(record);
  if (!log_.append(std::move(record))) records_.back()["status"] = "failed";
}

int TimedRun::status() const {
  const bool fine =
      std::none_of(records_.begin(), records_.end(), [](const Json& one) { return one["status"] == "failed"; });
  return fine ? kExitFine : kExitCheckFailed;
}

}  // namespace draft
