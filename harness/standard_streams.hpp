#pragma once
// Makes the program safe against standard streams that are closed, full, or files at their size limit.

#include <string>

namespace draft {

/// To be called first in main. If a standard stream is closed, the next file that is opened would get its descriptor,
/// and printed text would go into a dump or a file of records. So closed ones are opened on /dev/null; stdout
/// read-only, so that printing to it still fails. Writing beyond a file size limit from now on fails instead of ending
/// the program.
void guard_standard_streams();

/// Flushes stdout. Returns "" if everything that was printed is written, else the reason why not.
std::string unwritten_output();

}  // namespace draft
