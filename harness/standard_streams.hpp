#pragma once
// stdin, stdout and stderr as a program may find them: closed, full, or a file that must not grow any more.

#include <string>

namespace draft {

/// To be called first in main. A standard stream that is closed would give its number to the next file that is opened,
/// and what is printed would go into a dump or among records: each gets /dev/null instead, stdout in a way that refuses
/// to be written. A write beyond the limit of a file's size fails from now on and no longer ends the program.
void guard_standard_streams();

/// Writes out what was printed to stdout. Returns why that, or an earlier part of it, was not possible; empty: all of
/// it is written.
std::string unwritten_output();

}  // namespace draft
