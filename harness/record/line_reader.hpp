#pragma once
// Lines of an open file, one in memory at a time and none longer than memory should hold.

#include <cstddef>
#include <filesystem>
#include <string>

namespace draft {

/// The longest line that is read: four times the record of a head of a million tokens with its maps.
inline constexpr std::size_t kLongestLine = std::size_t{1} << 28;

class LineReader {
 public:
  /// Reads on from where the descriptor stands; it stays the caller's. `path` is for messages.
  LineReader(int file, std::filesystem::path path) : file_(file), path_(std::move(path)) {}

  /// The next line without its end; false behind the last. Throws UsageError, with the line's number, if reading fails
  /// or the line is longer than kLongestLine.
  bool next(std::string& line);
  /// The latest line's number, from 1 on.
  [[nodiscard]] int number() const { return number_; }
  /// The latest line has an end; only the last one may lack it.
  [[nodiscard]] bool has_end() const { return has_end_; }

 private:
  int file_;
  std::filesystem::path path_;
  std::string buffer_;
  std::size_t at_ = 0;  // in the buffer
  int number_ = 0;
  bool has_end_ = false;
};

}  // namespace draft
