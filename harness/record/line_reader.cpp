#include "harness/record/line_reader.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "harness/options.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;

}  // namespace

bool LineReader::next(std::string& line) {
  line.clear();
  ++number_;
  for (;;) {
    const std::size_t end = buffer_.find('\n', at_);
    has_end_ = end != std::string::npos;
    line.append(buffer_, at_, (has_end_ ? end : buffer_.size()) - at_);
    if (line.size() > kLongestLine) {
      throw UsageError(fmt::format("{}: line {}: wanted at most {} bytes, found more", shown(path_.string()), number_,
                                   kLongestLine));
    }
    at_ = has_end_ ? end + 1 : buffer_.size();
    if (has_end_) return true;
    buffer_.resize(kPiece);
    at_ = 0;
    ssize_t found = 0;
    do {
      found = ::read(file_, buffer_.data(), kPiece);
    } while (found < 0 && errno == EINTR);
    if (found < 0) {
      throw UsageError(
          fmt::format("{}: line {}: records cannot be read: {}", shown(path_.string()), number_, std::strerror(errno)));
    }
    buffer_.resize(static_cast<std::size_t>(found));
    if (found == 0) return !line.empty();
  }
}

}  // namespace draft
