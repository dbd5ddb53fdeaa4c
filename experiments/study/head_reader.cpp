#include "experiments/study/head_reader.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "reference/units.hpp"

namespace draft {
namespace {

/// A head whose numbers are too large to be measured is refused as input, not a failure of the program.
void require_measurable_input(const LoadedHead& head) {
  try {
    require_measurable(head.problem);
    if (head.earlier) require_measurable(head.earlier->problem);
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
}

LoadedHead load_head(const Dump& dump, const HeadSource& source, std::optional<Element> half) {
  const auto load = [&](const CaptureInfo& capture, Index head) -> LoadedProblem {
    if (!half) return {dump.load(capture, head)};
    HalfHead bits = dump.load_half(capture, head, *half);
    return {dump.problem_of(capture, head, bits), std::move(bits)};
  };
  const HeadTask& task = source.task;
  LoadedHead loaded{load(*task.capture, task.head)};
  if (source.earlier != nullptr) {
    loaded.earlier = load(*source.earlier, same_head(*task.capture, task.head, *source.earlier).value());
  }
  return loaded;
}

}  // namespace

std::optional<Element> half_element(const DumpInfo& info, const std::string& device) {
  if (device == "cpu") return std::nullopt;
  const auto element = parse_element(info.element);
  if (element == Element::bfloat16 || element == Element::float16) return element;
  throw UsageError(fmt::format("{}: --device cuda wants a dump in bfloat16 or float16, found {}; use --device cpu",
                               file_name(info), info.element));
}

HeadReader::HeadReader(const Dump& dump, std::vector<HeadSource> heads, std::optional<Element> half, NextHead next)
    : dump_(dump), heads_(std::move(heads)), half_(half), next_(std::move(next)) {
  if (!next_) {
    next_ = [all = heads_.size(), i = std::size_t{0}]() mutable -> std::optional<std::size_t> {
      if (i == all) return std::nullopt;
      return i++;
    };
  }
  start();
}

std::optional<std::pair<std::size_t, LoadedHead>> HeadReader::take() {
  if (!reading_.valid()) start();
  if (!reading_.valid()) return std::nullopt;
  const std::size_t place = place_;
  LoadedHead head = reading_.get();
  require_measurable_input(head);
  start();
  return std::pair{place, std::move(head)};
}

void HeadReader::start() {
  const std::optional<std::size_t> next = next_();
  if (!next) return;
  place_ = *next;
  reading_ =
      std::async(std::launch::async, [this, i = place_]() -> LoadedHead { return load_head(dump_, heads_[i], half_); });
}

}  // namespace draft
