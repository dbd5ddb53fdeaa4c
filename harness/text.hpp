#pragma once
// Text from a file on its way to a terminal: a name or a value may hold any bytes, and a terminal obeys some of them.

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

namespace draft {

/// Whether these bytes are UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// One line that a terminal prints as it stands. Escaped are: control characters (\n, \t, \r, \x1b, \u0085), what
/// reorders or hides text (\u202e, \u200b, \ufeff, ...), line and paragraph separators, and bytes that are no UTF-8
/// (\xff). Everything else stays. More than `most` bytes are cut between characters, and "..." says so.
std::string shown(std::string_view text, std::size_t most = std::numeric_limits<std::size_t>::max());

}  // namespace draft
