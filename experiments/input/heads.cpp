#include "experiments/input/heads.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "harness/record/provenance.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kLongestPrompt = 500;  // bytes that a record keeps: what tells the prompts of a dump apart

HeadTask task_of(const DumpInfo& info, std::size_t capture, Index head) {
  return {
      &info.captures[capture], head,
      static_cast<std::uint64_t>(capture) * static_cast<std::uint64_t>(info.heads) + static_cast<std::uint64_t>(head)};
}

}  // namespace

std::vector<std::string> chosen_captures(const DumpInfo& info, const Options& options) {
  const auto is_there = [&](const std::string& name) {
    return std::any_of(info.captures.begin(), info.captures.end(),
                       [&](const CaptureInfo& capture) { return capture.name == name; });
  };
  std::vector<std::string> names;
  for (const std::string& text : options.captures) {
    for (const std::string& name : is_there(text) ? std::vector{text} : split(text)) {
      names.push_back(info.capture(name).name);
    }
  }
  return names;
}

std::vector<HeadTask> chosen_heads(const DumpInfo& info, const Options& options) {
  const std::vector<std::string> names = chosen_captures(info, options);
  for (const Index head : options.heads) {
    if (head < 0 || head >= info.heads) {
      throw UsageError(fmt::format("--heads: {} has heads 0 to {}, found {}", file_name(info), info.heads - 1, head));
    }
  }
  std::vector<HeadTask> tasks;
  for (std::size_t c = 0; c < info.captures.size(); ++c) {
    const CaptureInfo& capture = info.captures[c];
    if (!names.empty() && std::find(names.begin(), names.end(), capture.name) == names.end()) continue;
    for (Index head = 0; head < info.heads; ++head) {
      const auto& heads = options.heads;
      if (!heads.empty() && std::find(heads.begin(), heads.end(), head) == heads.end()) continue;
      tasks.push_back(task_of(info, c, head));
    }
  }
  return tasks;
}

void require_not_causal(const DumpInfo& info, const std::string& what) {
  if (!info.grid.causal) return;
  throw UsageError(
      fmt::format("{}: {} wants attention that is not causal, found {}", file_name(info), what, to_string(info.grid)));
}

std::vector<HeadTask> heads_of_call(const DumpInfo& info, const CaptureInfo& capture) {
  std::vector<HeadTask> tasks;
  const auto place = static_cast<std::size_t>(&capture - info.captures.data());
  for (Index head = 0; head < info.heads; ++head) tasks.push_back(task_of(info, place, head));
  return tasks;
}

std::optional<Index> same_head(const CaptureInfo& capture, Index head, const CaptureInfo& other) {
  if (capture.model_heads.empty() || other.model_heads.empty()) return head;
  const auto found = std::ranges::find(other.model_heads, capture.model_heads[static_cast<std::size_t>(head)]);
  if (found == other.model_heads.end()) return std::nullopt;
  return found - other.model_heads.begin();
}

const CaptureInfo* earlier_capture(const DumpInfo& info, const HeadTask& task) {
  const CaptureInfo& own = *task.capture;
  const CaptureInfo* latest = nullptr;
  for (const CaptureInfo& other : info.captures) {
    if (other.layer != own.layer || other.prompt != own.prompt || other.branch != own.branch) continue;
    if (other.step >= own.step || !same_head(own, task.head, other)) continue;
    if (latest == nullptr || other.step > latest->step) latest = &other;
  }
  return latest;
}

Json grid_json(const Grid& grid) { return {{"frames", grid.frames}, {"height", grid.height}, {"width", grid.width}}; }

std::string digest_on_all(Ranks& ranks, const std::string& dump) {
  const std::string own = ranks.place_on_machine() == 0 ? sha256_file(dump) : "";
  ranks.require_same({{"build", build_info()},
                      {"GPU", machine_info()["gpu"]},
                      {"dump's SHA-256", own.empty() ? Json(nullptr) : Json(own)}});
  return ranks.shared(own);
}

Json input_of(const DumpInfo& info, const std::string& sha256, const HeadTask& task) {
  Json input;
  input["dump"] = file_name(info);
  input["sha256"] = sha256;
  input["model"] = info.model;
  input["capture"] = task.capture->name;
  input["layer"] = task.capture->layer;
  input["step"] = task.capture->step;
  input["timestep"] = task.capture->timestep;
  if (task.capture->steps) input["steps"] = *task.capture->steps;
  input["head"] = task.head;
  if (!task.capture->model_heads.empty()) input["model_head"] = task.capture->model_heads[task.head];
  input["grid"] = grid_json(info.grid);
  input["text_tokens"] = info.grid.text;
  if (info.grid.causal) input["causal"] = true;
  if (task.capture->prompt) input["prompt"] = shown(*task.capture->prompt, kLongestPrompt);
  input["head_dim"] = info.head_dim;
  return input;
}

}  // namespace draft
