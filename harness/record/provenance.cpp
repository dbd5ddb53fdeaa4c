#include "harness/record/provenance.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "build_info.hpp"
#include "harness/dump/dump.hpp"
#include "harness/gpu.hpp"
#include "harness/options.hpp"

namespace draft {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

/// The processor's name as Linux has it; "unknown" elsewhere.
std::string cpu_model() {
  std::ifstream lines("/proc/cpuinfo");
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

double memory_gb() {
  const double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return std::round(bytes / 1e8) / 10.0;
}

std::string& own_run_id() {
  static std::string id =
      fmt::format("{:%Y%m%dT%H%M%SZ}-{:08x}", fmt::gmtime(std::time(nullptr)), std::random_device{}() & 0xffffffffU);
  return id;
}

}  // namespace

nlohmann::ordered_json machine_info() {
  nlohmann::ordered_json info{
      {"cpu", cpu_model()}, {"cores", std::thread::hardware_concurrency()}, {"memory_gb", memory_gb()}};
  info.update(gpu_info());
  return info;
}

nlohmann::ordered_json build_info() {
  return {{"commit", kGitCommit},    {"dirty", kGitDirty},     {"type", kBuildType},    {"compiler", kCompiler},
          {"flags", kCompilerFlags}, {"cuda", cuda_version()}, {"hdf5", hdf5_version()}};
}

const std::string& run_id() { return own_run_id(); }

void adopt_run_id(const std::string& id) { own_run_id() = id; }

std::uint64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return 1024 * static_cast<std::uint64_t>(usage.ru_maxrss);
}

std::string utc_time() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

std::string sha256_file(const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError(fmt::format("{}: cannot be read: {}", path.string(), why));
  };
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  bool fine = context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  std::vector<char> piece(kPiece);
  while (fine && file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    fine = EVP_DigestUpdate(context.get(), piece.data(), static_cast<std::size_t>(file.gcount())) == 1;
  }
  if (!file.eof()) refuse("reading failed");
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  if (!fine || EVP_DigestFinal_ex(context.get(), digest.data(), &length) != 1) refuse("SHA-256 failed");
  std::string hexadecimal;
  for (unsigned i = 0; i < length; ++i) hexadecimal += fmt::format("{:02x}", digest[i]);
  return hexadecimal;
}

}  // namespace draft
