#pragma once
// What a dump may hold, for its reader and its writer, and what reading one may take. format.md has all rules.

#include <cstdint>
#include <string_view>

#include "harness/text.hpp"
#include "reference/problem.hpp"

namespace draft {

inline constexpr Index kLongestAxis = 1'000'000;  // of the grid: keeps the number of tokens far from overflow
inline constexpr Index kMostHeads = 65'536;       // likewise the numbers of a dataset
inline constexpr Index kLargestHeadDim = 65'536;
inline constexpr std::size_t kMostCaptures = 4096;
inline constexpr std::uint64_t kLargestChunk = std::uint64_t{128} << 20;  // bytes: HDF5 holds several at once
inline constexpr std::size_t kLargestAttribute = std::size_t{1} << 24;    // bytes
inline constexpr std::uint64_t kGzipAtMost = 1032;  // how much smaller deflate makes anything: 258 bytes in two bits

// A damaged file is small or is refused by its sizes; a sound one gets more the more there is to read.
// Of the processor, for each thing that is asked of it: opening the file, or one head.
inline constexpr std::uint64_t kReaderSeconds = 1;
inline constexpr std::uint64_t kReaderBytesPerSecond = 10'000'000;  // more for every byte: HDF5 decodes far faster
inline constexpr std::uint64_t kReaderOpening = 10'000'000;         // as many bytes of a file count when it is opened
inline constexpr std::uint64_t kReaderCapture = 10'000;             // a capture's attributes and headers as so many
#ifdef __SANITIZE_ADDRESS__                                         // keeps freed memory
inline constexpr std::uint64_t kReaderMemory = std::uint64_t{1} << 30;
#else
inline constexpr std::uint64_t kReaderMemory = std::uint64_t{256} << 20;  // bytes, whatever the file
#endif
inline constexpr std::uint64_t kReaderPieces = 4;                       // and this many chunks at once
inline constexpr std::uint64_t kReaderStack = std::uint64_t{64} << 20;  // bytes
inline constexpr int kReaderSilence = 120'000;  // ms without an answer: the disk does not answer

/// What is wrong with an attribute's text; nullptr: nothing. HDF5 would cut it at a NUL.
inline const char* fault_of_text(std::string_view text) {
  static_assert(kLargestAttribute == 16777216, "the text below has the number");
  if (text.size() >= kLargestAttribute) return "16777216 bytes or more";
  if (!is_utf8(text)) return "bytes that are no UTF-8";
  return text.find('\0') != std::string_view::npos ? "a NUL" : nullptr;
}

/// What is wrong with the name of a capture, a link of HDF5; nullptr: nothing.
inline const char* fault_of_name(std::string_view name) {
  if (name.empty()) return "an empty name";
  if (name == ".") return "'.', which is the group itself";
  return name.find('/') != std::string_view::npos ? "a '/', which parts groups" : fault_of_text(name);
}

}  // namespace draft
