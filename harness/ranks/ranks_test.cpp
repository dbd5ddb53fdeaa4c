// Ranks that are threads of this process, over a channel in memory: the rules of sharing, without MPI.
#include "harness/ranks/ranks.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "harness/options.hpp"
#include "harness/ranks/hand_out.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

struct Mailboxes {
  std::mutex mutex;
  std::map<int, std::deque<Message>> of;
};

class MemoryChannel : public Channel {
 public:
  MemoryChannel(Mailboxes& boxes, int rank, int count) : boxes_(boxes), rank_(rank), count_(count) {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int count() const override { return count_; }
  void send(int to, const std::string& bytes) override {
    const std::lock_guard lock(boxes_.mutex);
    boxes_.of[to].push_back({rank_, bytes});
  }
  std::optional<Message> receive() override {
    const std::lock_guard lock(boxes_.mutex);
    std::deque<Message>& own = boxes_.of[rank_];
    if (own.empty()) return std::nullopt;
    Message first = std::move(own.front());
    own.pop_front();
    return first;
  }

 private:
  Mailboxes& boxes_;
  int rank_, count_;
};

/// How each rank ended: its failure, or "ended by another rank", or "".
struct Ended {
  std::vector<std::string> thrown;  // [rank]
  std::vector<int> status;          // [rank]
  std::string late;                 // what the first rank learnt when it left
};

/// Runs `body` on each of `count` ranks.
template <typename Body>
Ended run_ranks(int count, const Body& body) {
  Mailboxes boxes;
  Ended ended{std::vector<std::string>(static_cast<std::size_t>(count)),
              std::vector<int>(static_cast<std::size_t>(count)), ""};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      const auto own = connect(std::make_unique<MemoryChannel>(boxes, rank, count));
      std::string error;
      std::string& thrown = ended.thrown[static_cast<std::size_t>(rank)];
      try {
        own->meet();
        body(*own);
      } catch (const RunEnded&) {
        thrown = "ended by another rank";
      } catch (const std::exception& failed) {
        thrown = error = failed.what();
      }
      const auto [status, late] = own->leave(error.empty() ? kExitFine : kExitBadInput, error);
      ended.status[static_cast<std::size_t>(rank)] = status;
      if (rank == 0) ended.late = late;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return ended;
}

Json found_in(std::size_t unit) { return {{"unit", unit}}; }

// Given 3 ranks and 40 units in two works, claim: each unit is written once, with what its rank found, on the first
// rank; all ranks took part; steps of all arrive; and the first rank's text and run reach all.
TEST(Ranks, ShareUnitsAndWriteEachOnce) {
  std::multiset<std::size_t> written;
  std::set<int> workers;
  std::atomic<Index> steps{0};
  std::atomic<int> told{0};
  const Ended ended = run_ranks(3, [&](Ranks& ranks) {
    for (const std::size_t many : {10, 30}) {
      SharedWork units(ranks, {std::vector<double>(many, 1.0),
                               [&](std::size_t unit, const std::vector<Json>& found) {
                                 EXPECT_EQ(found[0]["unit"], unit);
                                 EXPECT_TRUE(std::isnan(found[1].get<double>()));
                                 written.insert(unit);
                                 workers.insert(found[2].get<int>());
                               },
                               [&](Index more) { steps += more; }});
      while (const auto unit = units.take()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        units.advance(5);
        units.deliver(*unit, {found_in(*unit), std::numeric_limits<double>::quiet_NaN(), ranks.rank()});
      }
      units.finish();
    }
    if (ranks.shared("from " + std::to_string(ranks.rank())) == "from 0") ++told;
  });
  for (std::size_t unit = 0; unit < 30; ++unit) EXPECT_EQ(written.count(unit), unit < 10 ? 2U : 1U) << unit;
  EXPECT_EQ(workers, (std::set<int>{0, 1, 2}));
  EXPECT_EQ(steps, 40 * 5);
  EXPECT_EQ(told, 3);
  EXPECT_EQ(ended.thrown, std::vector<std::string>(3));
  EXPECT_EQ(ended.status, std::vector<int>(3, kExitFine));
}

// Given a rank that fails in its second unit, claim: what was done before is written, the others end, the first rank
// says whose failure it was, and all have its status.
TEST(Ranks, OneThatFailsEndsTheRunAndLosesNothing) {
  std::set<std::size_t> written, delivered;
  std::mutex mutex;
  const Ended ended = run_ranks(3, [&](Ranks& ranks) {
    SharedWork units(
        ranks,
        {std::vector<double>(300, 1.0),
         [&](std::size_t unit, const std::vector<Json>&) { EXPECT_TRUE(written.insert(unit).second); }, [](Index) {}});
    for (int done = 0; const auto unit = units.take(); ++done) {
      if (ranks.rank() == 1 && done == 1) throw UsageError("head 7 is damaged");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      units.deliver(*unit, {found_in(*unit)});
      const std::lock_guard lock(mutex);
      delivered.insert(*unit);
    }
    units.finish();
    ranks.shared("");  // here others learn of it
  });
  EXPECT_EQ(written, delivered);
  EXPECT_LT(written.size(), 300U);
  EXPECT_EQ(ended.thrown[0], "rank 1 of 3: head 7 is damaged");
  EXPECT_EQ(ended.thrown[1], "head 7 is damaged");
  EXPECT_EQ(ended.thrown[2], "ended by another rank");
  EXPECT_EQ(ended.late, "");
  EXPECT_EQ(ended.status, std::vector<int>(3, kExitBadInput));
}

// Given a first rank that cannot write (or fails itself), claim: it says so once, others are told, nothing hangs.
TEST(Ranks, AFirstRankThatFailsEndsTheRun) {
  for (const bool in_writing : {true, false}) {
    const Ended ended = run_ranks(2, [&](Ranks& ranks) {
      SharedWork units(ranks, {std::vector<double>(20, 1.0),
                               [&](std::size_t, const std::vector<Json>&) {
                                 if (in_writing) throw UsageError("disk full");
                               },
                               [](Index) {}});
      while (const auto unit = units.take()) {
        if (!in_writing && ranks.is_first()) throw UsageError("disk full");
        units.deliver(*unit, {});
      }
      units.finish();
      ranks.shared("");
    });
    EXPECT_EQ(ended.thrown, (std::vector<std::string>{"disk full", "ended by another rank"}));
    EXPECT_EQ(ended.status, std::vector<int>(2, kExitBadInput));
  }
}

// Given a rank that has failed before it met the others, or after the last work, claim: the first rank learns why.
TEST(Ranks, FailuresBeforeAndAfterTheWorkAreKnown) {
  Mailboxes boxes;
  std::string thrown;
  std::thread other([&] {
    const auto own = connect(std::make_unique<MemoryChannel>(boxes, 1, 2));
    EXPECT_EQ(own->leave(kExitBadInput, "--heads: no such head").first, kExitBadInput);
  });
  {
    const auto own = connect(std::make_unique<MemoryChannel>(boxes, 0, 2));
    try {
      own->meet();
    } catch (const UsageError& error) {
      thrown = error.what();
    }
    EXPECT_EQ(own->leave(kExitBadInput, thrown).first, kExitBadInput);
  }
  other.join();
  EXPECT_EQ(thrown, "rank 1 of 2: --heads: no such head");
  const Ended ended = run_ranks(2, [](Ranks& ranks) {
    if (ranks.rank() == 1) throw UsageError("stdout cannot be written");
  });
  EXPECT_EQ(ended.thrown[0] + ended.late, "rank 1 of 2: stdout cannot be written");
  EXPECT_EQ(ended.status, std::vector<int>(2, kExitBadInput));
}

// Given ranks that were built from other sources, claim: the first one names the value, the others end.
TEST(Ranks, RefuseOthersThatAreNotTheSame) {
  const Ended ended = run_ranks(3, [](Ranks& ranks) {
    ranks.require_same({{"build", "a"}, {"dump", ranks.rank() == 1 ? Json(nullptr) : Json("new")}});
    ranks.require_same({{"build", "a"}, {"dump", ranks.rank() == 2 ? "old" : "new"}});
  });
  EXPECT_EQ(ended.thrown[0], "rank 2 of 3: wanted the first rank's dump, \"new\", found \"old\"");
  EXPECT_EQ(ended.thrown[1], "ended by another rank");
  EXPECT_EQ(ended.thrown[2], "ended by another rank");
}

// Given ranks of one machine that may use the same cores, claim: each has a place of its own there, their shares differ
// by one thread at most and add up to the cores, where there are enough; a number that was asked for stays.
TEST(Ranks, DivideTheCoresOfTheirMachine) {
  std::mutex mutex;
  std::multiset<int> threads, places;
  run_ranks(3, [&](Ranks& ranks) {
    const std::lock_guard lock(mutex);
    threads.insert(ranks.threads(0));
    places.insert(ranks.place_on_machine());
    EXPECT_EQ(ranks.threads(7), 7);
  });
  int sum = 0;
  for (const int own : threads) sum += own;
  EXPECT_EQ(sum, std::max(3, thread_count(0)));
  EXPECT_LE(*threads.rbegin() - *threads.begin(), 1);
  EXPECT_EQ(places, (std::multiset<int>{0, 1, 2}));
}

// Given 7 units of known cost and two ranks, claim: the longest first, equal ones in their order; a rank gets no second
// unit once fewer than two a rank are left; one rank alone gets all, in their order.
TEST(HandOut, GivesLongestFirstAndKeepsNothingBack) {
  HandOut units({1, 5, 3, 5, 2, 1, 1}, 2);
  EXPECT_EQ(units.take(0), 1U);
  EXPECT_EQ(units.take(1), 3U);
  EXPECT_EQ(units.take(0), 2U);
  EXPECT_EQ(units.take(0), 4U);            // 7 left: 3 a rank
  EXPECT_EQ(units.take(0), std::nullopt);  // it holds 3
  for (int i = 0; i < 3; ++i) units.delivered(0);
  EXPECT_EQ(units.take(0), 0U);  // 4 left: 2 a rank
  units.delivered(1);            // 3 left: 1 a rank
  EXPECT_EQ(units.take(0), std::nullopt);
  EXPECT_EQ(units.take(1), 5U);
  units.delivered(0);
  EXPECT_EQ(units.take(0), 6U);
  EXPECT_TRUE(units.others_hold());
  EXPECT_FALSE(units.finished());
  units.delivered(0);
  units.delivered(1);
  EXPECT_EQ(units.take(0), std::nullopt);
  EXPECT_TRUE(units.finished());
  HandOut alone({1, 5, 3}, 1);
  for (std::size_t unit = 0; unit < 3; ++unit) EXPECT_EQ(alone.take(0), unit);
}

}  // namespace
}  // namespace draft
