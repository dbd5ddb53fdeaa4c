#pragma once
// The processes that share a run: one alone, or the ranks that mpirun or srun started. Commands take units of work, say
// what they found, and know nothing of MPI.
//
// The first rank has the file of records and hands out units, on a thread of its own beside its own share of the work.
// The other ranks ask it for a unit when they want one, and send what they found as soon as a unit is done.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/ranks/channel.hpp"
#include "harness/record/json_line.hpp"
#include "reference/problem.hpp"

namespace draft {

/// Thrown on a rank whose run another rank has ended: that one has said why.
struct RunEnded {};

/// SharedWork of work that ranks share.
struct Work {
  std::vector<double> costs;  // of each unit, in any measure
  /// On the first rank, for each unit or part of one, one at a time, in the order in which they are done: what was
  /// found.
  std::function<void(std::size_t unit, const std::vector<Json>& found)> write;
  /// On the first rank: steps that any rank has done.
  std::function<void(Index steps)> progress;
};

class Ranks {
 public:
  Ranks(int rank, int count) : rank_(rank), count_(count) {}
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  virtual ~Ranks() = default;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] bool is_first() const { return rank_ == 0; }
  /// Its place among the ranks of this machine.
  [[nodiscard]] int place_on_machine() const { return place_; }
  /// `requested` if positive, else this rank's share of the cores that it and the others of its machine may use; 0, all
  /// that this process may use, where it is alone.
  [[nodiscard]] int threads(int requested) const { return requested > 0 ? requested : threads_; }

  /// The first rank's text, on all. All ranks call it, in the same order.
  std::string shared(const std::string& text);
  /// Throws UsageError on the first rank, RunEnded on the others, unless all ranks have the first one's values under
  /// its names, or null: not known there. All ranks call it.
  void require_same(const Json& values);
  /// On the first rank, to stderr: what all ranks would say.
  void say(const std::string& text) const;

  /// To be called first: finds this rank's place on its machine and its threads, and gives all ranks the first one's
  /// run id. Throws UsageError on the first rank, RunEnded on others, if one has failed already.
  void meet();
  /// To be called last. Waits until all ranks are done. `error`: why this rank has failed, or "". Returns the run's
  /// exit status, the first rank's; and on the first rank why another one has failed, if that was not thrown before.
  virtual std::pair<int, std::string> leave(int status, const std::string& error) = 0;

 protected:
  friend class SharedWork;

  using Answer = std::function<std::string(const std::vector<std::string>& texts)>;
  /// All ranks' texts, by rank, go to the first; what it answers, to all.
  virtual std::string exchange(const std::string& text, const Answer& answer) = 0;
  virtual void open(Work work) = 0;
  virtual std::optional<std::size_t> take() = 0;
  virtual void deliver(std::size_t unit, std::vector<Json> found, bool done) = 0;
  virtual void advance(Index steps) = 0;
  /// Ends what open() began; throws if units are missing since a rank failed.
  virtual void finish() = 0;
  /// The same after a failure of this rank.
  virtual void abandon() noexcept = 0;

 private:
  int rank_, count_, place_ = 0, threads_ = 0;
};

/// One kind of work, shared over the ranks. All ranks make the same ones in the same order.
class SharedWork {
 public:
  SharedWork(Ranks& ranks, Work work) : ranks_(ranks) { ranks_.open(std::move(work)); }
  SharedWork(const SharedWork&) = delete;
  SharedWork& operator=(const SharedWork&) = delete;
  ~SharedWork() {
    if (!finished_) ranks_.abandon();
  }

  /// The next unit for this rank. None: it has as many as it may have now, and may ask again after deliver(); or, where
  /// it has none, nothing is left.
  std::optional<std::size_t> take() { return ranks_.take(); }
  /// A unit is done. What was found in it is written at once.
  void deliver(std::size_t unit, std::vector<Json> found) { ranks_.deliver(unit, std::move(found), true); }
  /// A part of a unit is done; deliver() comes later.
  void deliver_part(std::size_t unit, std::vector<Json> found) { ranks_.deliver(unit, std::move(found), false); }
  /// Steps are done. May be called from any thread.
  void advance(Index steps) { ranks_.advance(steps); }
  /// Waits until all units are done. Throws UsageError if a rank has failed.
  void finish() {
    finished_ = true;
    ranks_.finish();
  }

 private:
  Ranks& ranks_;
  bool finished_ = false;
};

/// The ranks of this process's launch; the first call finds them. Throws UsageError if a launcher started several
/// processes and MPI is not there (open_channel()).
Ranks& ranks();

/// The rank at this end of a channel; meet() comes next, or leave().
std::unique_ptr<Ranks> connect(std::unique_ptr<Channel> channel);

/// To be called last in main, on failures too: `error` is this rank's, or "". Others than the first rank have not
/// printed theirs. Returns the exit status of the run, the same on all ranks.
int leave_ranks(int status, const std::string& error, const std::function<void(const std::string&)>& print);

}  // namespace draft
