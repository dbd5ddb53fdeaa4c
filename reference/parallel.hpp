#pragma once
// Runs independent pieces of work on all cores.

#include <functional>

#include "reference/problem.hpp"

namespace draft {

/// `requested` if positive, else the number of cores that this process may use.
int thread_count(int requested);

/// Calls make_worker() once on each of `threads` threads, then calls the returned functions with the items 0 to
/// items - 1: each item once, on one thread, started in rising order. A worker may own scratch memory. Rethrows the
/// first exception once all threads have stopped.
void parallel_for(Index items, int threads, const std::function<std::function<void(Index)>()>& make_worker);

}  // namespace draft
