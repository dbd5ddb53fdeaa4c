#include "reference/parallel.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace draft {

int thread_count(int requested) {
  if (requested > 0) return requested;
  cpu_set_t allowed;  // knows the share of a container or taskset, which hardware_concurrency() may not
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(Index items, int threads, const std::function<std::function<void(Index)>()>& make_worker) {
  std::atomic<Index> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;
  const auto loop = [&] {
    try {
      const auto work = make_worker();
      for (Index item = next++; item < items; item = next++) work(item);
    } catch (...) {
      next = items;  // makes the other threads stop after their current item
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  };
  const auto wanted = static_cast<int>(std::min<Index>(thread_count(threads), std::max<Index>(items, 1)));
  {
    std::vector<std::jthread> helpers;
    for (int t = 1; t < wanted; ++t) helpers.emplace_back(loop);
    loop();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace draft
