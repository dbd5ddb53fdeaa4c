#pragma once
// Limits of what a dump may contain, for its reader and its writer, and limits of reading one. format.md has all rules.

#include <cstdint>
#include <string_view>

#include "harness/text.hpp"
#include "reference/problem.hpp"

namespace draft {

inline constexpr Index kLongestAxis = 1'000'000;  // an axis of the grid: so that the number of tokens cannot overflow
inline constexpr Index kMostHeads = 65'536;       // so that the size of a dataset cannot overflow
inline constexpr Index kLargestHeadDim = 65'536;
inline constexpr std::size_t kMostCaptures = 4096;
inline constexpr std::uint64_t kLargestChunk = std::uint64_t{128} << 20;  // bytes: HDF5 holds several at once
inline constexpr std::size_t kLargestAttribute = std::size_t{1} << 24;    // bytes
inline constexpr std::uint64_t kGzipAtMost = 1032;                        // deflate's best ratio: 258 bytes in two bits

// Limits of the reading process. They grow with the bytes that there are to read, so that a large valid file is not
// refused; a damaged file is small, or was refused before for claiming sizes that it does not have.
// Processor time for each request (opening the file, or one head): kReaderSeconds, and one second more for each
// kReaderBytesPerSecond bytes to decode.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kReaderSeconds = 4;  // a sanitizer's own memory alone can take one
#else
inline constexpr std::uint64_t kReaderSeconds = 1;
#endif
inline constexpr std::uint64_t kReaderBytesPerSecond = 10'000'000;  // HDF5 decodes far faster
inline constexpr std::uint64_t kReaderOpening = 10'000'000;         // opening a file counts as its bytes, this at most
inline constexpr std::uint64_t kReaderCapture = 10'000;             // a capture's headers count as so many bytes
#ifdef __SANITIZE_ADDRESS__                                         // keeps freed memory
inline constexpr std::uint64_t kReaderMemory = std::uint64_t{1} << 30;
#else
inline constexpr std::uint64_t kReaderMemory = std::uint64_t{256} << 20;  // bytes, whatever the file
#endif
inline constexpr std::uint64_t kReaderPieces = 4;                       // and room for so many chunks
inline constexpr std::uint64_t kReaderStack = std::uint64_t{64} << 20;  // bytes
inline constexpr int kReaderSilence = 120'000;  // ms without an answer: the disk must be at fault

/// What is wrong with an attribute's text, or nullptr. A NUL is refused because HDF5 would cut the text there.
inline const char* fault_of_text(std::string_view text) {
  static_assert(kLargestAttribute == 16777216, "the text below has the number");
  if (text.size() >= kLargestAttribute) return "16777216 bytes or more";
  if (!is_utf8(text)) return "bytes that are no UTF-8";
  return text.find('\0') != std::string_view::npos ? "a NUL" : nullptr;
}

/// What is wrong with the name of a capture, which is an HDF5 link, or nullptr.
inline const char* fault_of_name(std::string_view name) {
  if (name.empty()) return "an empty name";
  if (name == ".") return "'.', which is the group itself";
  return name.find('/') != std::string_view::npos ? "a '/', which parts groups" : fault_of_text(name);
}

}  // namespace draft
