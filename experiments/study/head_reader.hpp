#pragma once
// The heads of a dump one after the other: read ahead, measured several at once, finished in their order.

#include <algorithm>
#include <deque>
#include <future>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "experiments/input/heads.hpp"
#include "experiments/study/head_studies.hpp"
#include "harness/dump/dump.hpp"

namespace draft {

/// What is read of a head.
struct HeadSource {
  HeadTask task;
  const CaptureInfo* earlier = nullptr;  // the head's latest capture of an earlier step, if that is wanted
};

/// The 16-bit type of a dump that a GPU is to measure; none for the CPU, which takes them all. Throws UsageError where
/// the dump has another.
std::optional<Element> half_element(const DumpInfo& info, const std::string& device);

/// Reads heads in their order, the next one while the last ones are measured. Nobody else reads the dump meanwhile.
class HeadReader {
 public:
  HeadReader(const Dump& dump, std::vector<HeadSource> heads, std::optional<Element> half);

  /// The next of the heads. Throws UsageError on one that cannot be measured.
  LoadedHead take();
  [[nodiscard]] std::size_t size() const { return heads_.size(); }

 private:
  void start();

  const Dump& dump_;
  std::vector<HeadSource> heads_;
  std::optional<Element> half_;
  std::size_t started_ = 0;
  std::future<LoadedHead> next_;
};

/// Calls measure(i, head) of the reader's heads, up to `at_once` of them at a time, each on a thread of its own, and
/// finish(i, what it returned) in rising order on this one. Head i is finished before head i + at_once is begun. What
/// reading or measuring a head throws is thrown in that order, too: all heads before it are finished.
template <typename Measure, typename Finish>
void measure_in_order(HeadReader& reader, std::size_t at_once, const Measure& measure, const Finish& finish) {
  using Found = std::invoke_result_t<Measure, std::size_t, const LoadedHead&>;
  std::deque<std::future<Found>> running;  // its destructor waits
  bool refused = false;
  const auto begin = [&](std::size_t i) -> std::future<Found> {
    try {
      return std::async(std::launch::async, [&measure, i, head = reader.take()] { return measure(i, head); });
    } catch (...) {
      refused = true;
      std::promise<Found> nothing;
      nothing.set_exception(std::current_exception());
      return nothing.get_future();
    }
  };
  for (std::size_t done = 0, next = 0; done < reader.size(); ++done) {
    for (; !refused && next < std::min(reader.size(), done + at_once); ++next) running.push_back(begin(next));
    Found found = running.front().get();
    running.pop_front();
    finish(done, std::move(found));
  }
}

}  // namespace draft
