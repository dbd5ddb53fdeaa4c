#include "experiments/input/call.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "harness/numbers/normal_rows.hpp"
#include "harness/record/provenance.hpp"

namespace draft {
namespace {

Element chosen_element(const std::string& chosen, const std::string& of_dump) {
  const auto element = parse_element(chosen.empty() ? of_dump : chosen);
  return element == Element::float16 ? Element::float16 : Element::bfloat16;
}

void describe(const CallShape& shape, Json& input) {
  input["heads"] = shape.heads;
  input["grid"] = grid_json(shape.grid);
  input["text_tokens"] = shape.grid.text;
  input["head_dim"] = shape.head_dim;
  input["shape"] = to_string(shape);
}

}  // namespace

CallSource CallSource::open(const TimedOptions& options) {
  if (std::filesystem::exists(options.dump)) return of_dump(options);
  try {
    return of_shape(options);
  } catch (const std::invalid_argument& error) {
    throw UsageError(fmt::format("DUMP|SHAPE: no such file, and as a shape: {}", error.what()));
  }
}

CallSource CallSource::of_shape(const TimedOptions& options) {
  CallSource source;
  source.shape_ = parse_call_shape(options.dump, options.head_dim);
  source.element_ = chosen_element(options.element, "bfloat16");
  source.scale_ = 1.0 / std::sqrt(static_cast<double>(options.head_dim));
  source.seed_ = options.seed;
  source.input_ = {{"dump", nullptr}, {"sha256", nullptr}, {"capture", nullptr}, {"head", nullptr}};
  describe(source.shape_, source.input_);
  source.input_["data"] = "normal";
  source.input_["seed"] = options.seed;
  return source;
}

CallSource CallSource::of_dump(const TimedOptions& options) {
  CallSource source;
  source.dump_ = std::make_shared<const Dump>(Dump::open(options.dump));
  const DumpInfo& info = source.dump_->info();
  require_not_causal(info, "a timed kernel");
  source.tasks_ = chosen_heads(info, options);
  source.shape_ = {static_cast<Index>(source.tasks_.size()), info.grid, info.head_dim};
  source.element_ = chosen_element(options.element, info.element);
  const CaptureInfo* first = source.tasks_.front().capture;
  source.scale_ = first->softmax_scale;
  std::string names = first->name;
  const CaptureInfo* last = first;
  for (const HeadTask& task : source.tasks_) {
    if (task.capture->softmax_scale != first->softmax_scale) {
      throw UsageError(
          fmt::format("--capture: wanted captures of one softmax scale for one call, found {} with {} and {} "
                      "with {}",
                      first->name, first->softmax_scale, task.capture->name, task.capture->softmax_scale));
    }
    if (task.capture != last) names += "+" + task.capture->name;
    last = task.capture;
  }
  Json& input = source.input_;
  input["dump"] = file_name(info);
  input["sha256"] = sha256_file(options.dump);
  input["model"] = info.model;
  input["capture"] = names;
  std::vector<Index> heads = options.heads;
  std::sort(heads.begin(), heads.end());
  input["head"] = heads.empty() ? Json() : Json(heads);  // null: all of the captures
  describe(source.shape_, input);
  input["data"] = "captured";
  return source;
}

void CallSource::load(const Visit& visit) const {
  for (Index place = 0; place < shape_.heads; ++place) {
    if (dump_ == nullptr) {
      const Index size = shape_.grid.tokens() * shape_.head_dim;
      const auto rows = [&](std::uint64_t tensor) {
        return normal_rows(size, seed_, 3 * static_cast<std::uint64_t>(place) + tensor, element_);
      };
      visit(place, rows(0), rows(1), rows(2));
      continue;
    }
    const HeadTask& task = tasks_[static_cast<std::size_t>(place)];
    const HalfHead head = dump_->load_half(*task.capture, task.head, element_);
    visit(place, head.q, head.k, head.v);
  }
}

}  // namespace draft
