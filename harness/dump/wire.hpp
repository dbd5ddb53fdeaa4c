#pragma once
// A dump's structure in the form that the reading process sends to the program.

#include <string>
#include <string_view>

#include "harness/dump/dump.hpp"

namespace draft {

std::string to_wire(const DumpInfo& info);

/// The inverse of to_wire(), without the path. Throws std::runtime_error on anything that to_wire() does not write for
/// a valid dump: in the sending process a damaged file may have corrupted anything.
DumpInfo from_wire(std::string_view text);

}  // namespace draft
