#pragma once
// What a launcher of parallel programs (mpirun, srun) says to the processes that it starts.

#include <memory>

#include "harness/ranks/channel.hpp"

namespace draft {

/// This process's place among those of one launch.
struct Launch {
  int rank = 0, count = 1;
};

/// From the launcher's environment variables (Open MPI's, PMI's, or PMIx's with Slurm's); without them a process is
/// alone. Costs nothing: MPI is neither loaded nor called.
const Launch& launch();

/// Loads MPI and starts it. Throws UsageError if this build has none or it cannot be loaded.
std::unique_ptr<Channel> open_channel();

}  // namespace draft
