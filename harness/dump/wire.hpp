#pragma once
// A dump's structure as text, between the process that reads the file and the program.

#include <string>
#include <string_view>

#include "harness/dump/dump.hpp"

namespace draft {

std::string to_wire(const DumpInfo& info);

/// Without the path. Throws std::runtime_error on anything that to_wire() of a sound dump does not write: it comes from
/// a process in which a damaged file may have broken anything.
DumpInfo from_wire(std::string_view text);

}  // namespace draft
