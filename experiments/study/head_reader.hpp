#pragma once
// The heads of a dump one after the other: read ahead, measured several at once, finished in the order in which they
// were begun.

#include <deque>
#include <functional>
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

/// Says which head comes next: its place in a list. None: none, or none until one more is finished.
using NextHead = std::function<std::optional<std::size_t>()>;

/// Reads heads, the next one while the last ones are measured. Nobody else reads the dump meanwhile.
class HeadReader {
 public:
  /// Without `next` all of them, in their order.
  HeadReader(const Dump& dump, std::vector<HeadSource> heads, std::optional<Element> half, NextHead next = {});

  /// The next of the heads, and its place; none where there is none now. Throws UsageError on one that cannot be
  /// measured.
  std::optional<std::pair<std::size_t, LoadedHead>> take();

 private:
  void start();

  const Dump& dump_;
  std::vector<HeadSource> heads_;
  std::optional<Element> half_;
  NextHead next_;
  std::size_t place_ = 0;
  std::future<LoadedHead> reading_;  // of the head at place_; not valid: none
};

/// Calls measure(i, head) of the reader's heads, head i of its list, up to `at_once` of them at a time, each on a
/// thread of its own, and finish(i, what it returned) on this one, in the order in which they were begun. A head is
/// finished before the one `at_once` behind it is begun. What reading or measuring a head throws is thrown in that
/// order, too: all heads before it are finished.
template <typename Measure, typename Finish>
void measure_in_order(HeadReader& reader, std::size_t at_once, const Measure& measure, const Finish& finish) {
  using Found = std::invoke_result_t<Measure, std::size_t, const LoadedHead&>;
  std::deque<std::pair<std::size_t, std::future<Found>>> running;  // its destructor waits
  bool refused = false;
  const auto begin = [&] {
    try {
      auto next = reader.take();
      if (!next) return false;
      const std::size_t i = next->first;
      running.emplace_back(i, std::async(std::launch::async,
                                         [&measure, i, head = std::move(next->second)] { return measure(i, head); }));
    } catch (...) {
      refused = true;
      std::promise<Found> nothing;
      nothing.set_exception(std::current_exception());
      running.emplace_back(0, nothing.get_future());
    }
    return true;
  };
  for (;;) {
    while (!refused && running.size() < at_once && begin()) {
    }
    if (running.empty()) return;
    const std::size_t i = running.front().first;
    Found found = running.front().second.get();
    running.pop_front();
    finish(i, std::move(found));
  }
}

}  // namespace draft
