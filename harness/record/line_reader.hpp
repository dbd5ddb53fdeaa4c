#pragma once
// Lines of an open file, plain or gzip's, one in memory at a time and none longer than memory should hold.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>

namespace draft {

/// The longest line that is read: four times the record of a head of a million tokens with its maps.
inline constexpr std::size_t kLongestLine = std::size_t{1} << 28;

/// Whether a file of this name is gzip's: it ends in ".gz".
bool is_compressed(const std::filesystem::path& path);

class LineReader {
 public:
  /// Reads on from where the descriptor stands; it stays the caller's. `path` says whether it is compressed.
  LineReader(int file, std::filesystem::path path);

  /// The next line without its end; false behind the last. Throws UsageError, with the line's number, if reading fails,
  /// if what is compressed is damaged or cut off, or if the line is longer than kLongestLine.
  bool next(std::string& line);
  /// The latest line's number, from 1 on.
  [[nodiscard]] int number() const { return number_; }
  /// The latest line has an end; only the last one may lack it.
  [[nodiscard]] bool has_end() const { return has_end_; }

 private:
  struct Inflater;  // zlib's
  struct Close {
    void operator()(Inflater* inflater) const;
  };
  /// Into the buffer; 0 at the end.
  std::size_t read_piece(char* to, std::size_t size);
  [[noreturn]] void fail(const std::string& why) const;

  int file_;
  std::filesystem::path path_;
  std::string buffer_;
  std::unique_ptr<Inflater, Close> inflater_;
  std::size_t at_ = 0;  // in the buffer
  int number_ = 0;
  bool has_end_ = false;
};

}  // namespace draft
