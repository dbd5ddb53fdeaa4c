#include "harness/ranks/launch.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "harness/options.hpp"

namespace draft {
namespace {

struct Names {
  const char *rank, *count;
};

/// Open MPI's mpirun, MPICH's and Intel's (and srun with --mpi=pmi2), srun with --mpi=pmix.
constexpr Names kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}, {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};

std::optional<int> number_of(const char* name) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets the environment
  return text == nullptr ? std::nullopt : parsed<int>(text);
}

Launch find_launch() {
  for (const Names& names : kLaunchers) {
    const auto rank = number_of(names.rank), count = number_of(names.count);
    if (rank && count && *rank >= 0 && *rank < *count) return {*rank, *count};
  }
  return {};
}

[[noreturn]] void refuse(const std::string& why) {
  throw UsageError(
      fmt::format("a launcher started {} processes that are to share one run, but {}", launch().count, why));
}

}  // namespace

const Launch& launch() {
  static const Launch own = find_launch();
  return own;
}

#if defined(DRAFT_HAS_MPI)

// MPI is in a library of its own, loaded where a launcher is: it would make every start of the program slower, and this
// way the program runs on machines without MPI, too.
std::unique_ptr<Channel> open_channel() {
  constexpr const char* kLibrary = "libdraft_mpi.so";
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  std::filesystem::path file = folder / kLibrary;
  if (!std::filesystem::exists(file, ignored)) file = folder.parent_path() / "lib" / kLibrary;  // where it is installed
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);  // global: Open MPI's own parts look for it
  if (library == nullptr) refuse(fmt::format("MPI cannot be loaded: {}", dlerror()));
  const auto make = reinterpret_cast<Channel* (*)()>(dlsym(library, "draft_make_channel"));
  if (make == nullptr) refuse(fmt::format("{} is not of this build", file.string()));
  return std::unique_ptr<Channel>(make());
}

#else

std::unique_ptr<Channel> open_channel() {
  refuse(
      "this build has no MPI: when it was configured none was found, or -DDRAFT_MPI=OFF left it out (install "
      "libopenmpi-dev and configure again)");
}

#endif

}  // namespace draft
