#pragma once
// How the processes of one run reach each other: bytes from one to another, and nothing else of MPI.

#include <optional>
#include <string>

namespace draft {

struct Message {
  int from = 0;
  std::string bytes;
};

/// One thread at a time may call it.
class Channel {
 public:
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  virtual ~Channel() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int count() const = 0;
  /// Returns once `bytes` may be changed; may wait for the other side to receive. Of two messages to the same rank the
  /// first one arrives first.
  virtual void send(int to, const std::string& bytes) = 0;
  /// A message that has arrived, from any rank; none: there is none yet.
  virtual std::optional<Message> receive() = 0;
};

}  // namespace draft
