#pragma once
// Runs independent pieces of work on all cores.

#include <functional>

#include "reference/problem.hpp"

namespace draft {

/// `requested` if positive, else the number of cores that this process may use.
int thread_count(int requested);

/// Calls make_worker() once on each of `threads` threads and feeds the returned function the items
/// 0 .. items-1, each to exactly one worker, in rising order of start. A worker may own scratch memory.
/// Rethrows the first exception once all threads have stopped.
void parallel_for(Index items, int threads, const std::function<std::function<void(Index)>()>& make_worker);

}  // namespace draft
