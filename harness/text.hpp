#pragma once
// Makes text from a file safe to print: a name or a value may hold any bytes, also a terminal's control sequences.

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

namespace draft {

/// Whether these bytes are UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// The text as one line of visible characters. Escaped are control characters (\n, \t, \r, \x1b, \u0085), characters
/// that reorder or hide text (\u202e, \u200b, \ufeff, ...), line and paragraph separators, and bytes that are no UTF-8
/// (\xff). If it has more than `most` bytes, it is cut between characters and ends in "...".
std::string shown(std::string_view text, std::size_t most = std::numeric_limits<std::size_t>::max());

}  // namespace draft
