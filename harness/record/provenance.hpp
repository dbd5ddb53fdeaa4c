#pragma once
// Where a number comes from: the machine, the build, the time, and the input file's digest.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace draft {

/// {"cpu": model name, "cores": logical cores, "memory_gb": of the machine} and gpu_info().
nlohmann::ordered_json machine_info();

/// {"commit", "dirty", "type", "compiler", "flags", "cuda": version or null, "hdf5": version}.
nlohmann::ordered_json build_info();

/// This process as records name it: when it first asked, UTC, and 8 random digits, "20250520T123456Z-0a1b2c3d".
const std::string& run_id();

/// From now on records have this run id: that of the run which this process is a part of.
void adopt_run_id(const std::string& id);

/// The most memory that this process held at once, in bytes.
std::uint64_t peak_memory();

/// Now, UTC, ISO 8601 to the second: "2025-05-20T12:34:56Z".
std::string utc_time();

/// The file's SHA-256, 64 lower-case hexadecimal digits, read in pieces of 1 MB. Throws UsageError if the
/// file cannot be read.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace draft
