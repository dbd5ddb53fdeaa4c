#include "reference/parallel.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace draft {
namespace {

TEST(Parallel, EveryItemIsDoneOnce) {
  std::vector<std::atomic<int>> done(1000);
  parallel_for(1000, 4, [&] { return [&](Index item) { ++done[static_cast<std::size_t>(item)]; }; });
  for (const auto& count : done) EXPECT_EQ(count, 1);
}

TEST(Parallel, NoItemsIsFine) {
  parallel_for(0, 3, [&] { return [](Index) { FAIL(); }; });
}

TEST(Parallel, AnExceptionReachesTheCaller) {
  const auto fail_at = [](Index bad) {
    parallel_for(100, 3, [&] {
      return [&](Index item) {
        if (item == bad) throw std::runtime_error("item failed");
      };
    });
  };
  EXPECT_THROW(fail_at(57), std::runtime_error);
  EXPECT_NO_THROW(fail_at(100));
}

TEST(Parallel, ThreadCountHonoursTheRequest) {
  EXPECT_EQ(thread_count(3), 3);
  EXPECT_GE(thread_count(0), 1);
}

}  // namespace
}  // namespace draft
