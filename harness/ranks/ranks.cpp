#include "harness/ranks/ranks.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "harness/options.hpp"
#include "harness/ranks/first_rank.hpp"
#include "harness/ranks/launch.hpp"
#include "harness/ranks/other_rank.hpp"
#include "harness/record/provenance.hpp"

namespace draft {
namespace {

/// One process, as without a launcher.
class Alone : public Ranks {
 public:
  Alone() : Ranks(0, 1) {}
  std::pair<int, std::string> leave(int status, const std::string& /*error*/) override { return {status, ""}; }

 protected:
  std::string exchange(const std::string& text, const Answer& answer) override { return answer({text}); }
  void open(Work work) override {
    work_ = std::move(work);
    next_ = 0;
  }
  std::optional<std::size_t> take() override {
    if (next_ == work_.costs.size()) return std::nullopt;
    return next_++;
  }
  void deliver(std::size_t unit, std::vector<Json> found, bool /*done*/) override { work_.write(unit, found); }
  void advance(Index steps) override { work_.progress(steps); }
  void finish() override {}
  void abandon() noexcept override {}

 private:
  Work work_;
  std::size_t next_ = 0;
};

/// The same for processes of one machine, and for no others.
std::string machine_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return std::string(host.data()) + " " + boot;
}

/// The cores that this process may use: a digit a core.
std::string allowed_cores() {
  cpu_set_t allowed;
  std::string digits;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return digits;
  for (int core = 0; core < CPU_SETSIZE; ++core) digits += CPU_ISSET(core, &allowed) ? '1' : '0';
  return digits;
}

/// What each rank gets to know: its place on its machine and its threads. Ranks that may use the same cores divide
/// them.
Json seats(const std::vector<std::string>& texts) {
  struct Seat {
    std::string machine, cores;
  };
  std::vector<Seat> met;
  for (const std::string& text : texts) {
    const Json said = Json::parse(text);
    met.push_back({said[0].get<std::string>(), said[1].get<std::string>()});
  }
  Json found = Json::array();
  for (std::size_t rank = 0; rank < met.size(); ++rank) {
    const Seat& own = met[rank];
    std::ptrdiff_t place = 0, sharing = 0, before = 0;
    for (std::size_t other = 0; other < met.size(); ++other) {
      if (met[other].machine != own.machine) continue;
      const bool same_cores = met[other].cores == own.cores;
      place += other < rank ? 1 : 0;
      sharing += same_cores ? 1 : 0;
      before += same_cores && other < rank ? 1 : 0;
    }
    const std::ptrdiff_t cores = std::ranges::count(own.cores, '1');
    const std::ptrdiff_t share = cores / sharing + (before < cores % sharing ? 1 : 0);
    found.push_back({place, std::max<std::ptrdiff_t>(share, 1)});
  }
  return found;
}

std::unique_ptr<Ranks> own_ranks;

}  // namespace

std::string Ranks::shared(const std::string& text) {
  return exchange(is_first() ? text : "", [](const std::vector<std::string>& texts) { return texts[0]; });
}

void Ranks::require_same(const Json& values) {
  exchange(values.dump(), [](const std::vector<std::string>& texts) -> std::string {
    const Json wanted = Json::parse(texts[0]);
    for (std::size_t rank = 1; rank < texts.size(); ++rank) {
      const Json found = Json::parse(texts[rank]);
      for (const auto& [name, value] : wanted.items()) {
        if (found[name].is_null() || found[name] == value) continue;
        throw UsageError(fmt::format("rank {} of {}: wanted the first rank's {}, {}, found {}", rank, texts.size(),
                                     name, one_line(value), one_line(found[name])));
      }
    }
    return "";
  });
}

void Ranks::say(const std::string& text) const {
  if (is_first()) std::fputs(text.c_str(), stderr);
}

void Ranks::meet() {
  if (count() == 1) return;
  const std::string answer =
      exchange(Json{machine_name(), allowed_cores()}.dump(),
               [](const std::vector<std::string>& texts) { return Json{run_id(), seats(texts)}.dump(); });
  const Json found = Json::parse(answer);
  adopt_run_id(found[0].get<std::string>());
  const Json& seat = found[1][static_cast<std::size_t>(rank())];
  place_ = seat[0].get<int>();
  threads_ = seat[1].get<int>();
}

std::unique_ptr<Ranks> connect(std::unique_ptr<Channel> channel) {
  if (channel->rank() == 0) return std::make_unique<FirstRank>(std::move(channel));
  return std::make_unique<OtherRank>(std::move(channel));
}

Ranks& ranks() {
  if (own_ranks == nullptr) {
    if (launch().count == 1) {
      own_ranks = std::make_unique<Alone>();
    } else {
      own_ranks = connect(open_channel());
      own_ranks->meet();
    }
  }
  return *own_ranks;
}

int leave_ranks(int status, const std::string& error, const std::function<void(const std::string&)>& print) {
  if (launch().count == 1 || (own_ranks == nullptr && error.empty())) return status;
  if (own_ranks == nullptr) {
    try {
      own_ranks = connect(open_channel());  // where the others are, or where they come with the same error
    } catch (const UsageError&) {
      // Without MPI. A launcher ends all processes when the first one exits: the first rank has its line to print.
      if (launch().rank > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
      return status;
    }
  }
  const auto [found, failure] = own_ranks->leave(status, error);
  if (!failure.empty()) print(failure);
  own_ranks.reset();
  return found;
}

}  // namespace draft
