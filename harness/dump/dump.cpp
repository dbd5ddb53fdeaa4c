#include "harness/dump/dump.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hdf5.h>

#include <algorithm>
#include <exception>
#include <iterator>

#include "harness/dump/file.hpp"
#include "harness/dump/head.hpp"
#include "harness/dump/process.hpp"
#include "harness/dump/rules.hpp"
#include "harness/dump/wire.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kLongestPart = 400;  // bytes of a name or a value in a message

std::string part(const std::string& text) { return shown(text, kLongestPart); }

std::string capture_path(const std::string& name) { return "/captures/" + name; }

std::uintmax_t size_of_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto refuse = [&](const std::string& found) { throw DumpError(path, "file", "an HDF5 file", found); };
  if (!std::filesystem::exists(path, error)) refuse(error ? error.message() : "no such file");
  if (!std::filesystem::is_regular_file(path, error)) refuse("no regular file");
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) refuse(error.message());
  return bytes;
}

/// The function that runs in the reading process.
DumpAnswerer answer_from(const std::filesystem::path& path) {
  return [file = std::make_shared<const DumpFile>(path)](const DumpRequest& request, AnswerSpace& space) {
    file->answer(request, space);
  };
}

}  // namespace

DumpError::DumpError(const std::filesystem::path& file, const std::string& object, const std::string& wanted,
                     const std::string& found)
    : UsageError(part(file.string()) + ": " + part(object) + ": wanted " + part(wanted) + ", found " + part(found)) {}

std::size_t text_bytes(const std::filesystem::path& file, std::size_t before, const CaptureInfo& capture) {
  const std::size_t found = before + capture.prompt.value_or("").size() + capture.branch.value_or("").size();
  if (found > kLargestAttribute) {
    throw DumpError(file, "/captures",
                    fmt::format("at most {} bytes of prompts and branches in all", kLargestAttribute),
                    fmt::format("{}", found));
  }
  return found;
}

std::string file_name(const DumpInfo& info) { return shown(info.path.filename().string()); }

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

const CaptureInfo& DumpInfo::capture(const std::string& name) const { return captures[place_of(name)]; }

std::size_t DumpInfo::place_of(const std::string& name) const {
  for (std::size_t i = 0; i < captures.size(); ++i) {
    if (captures[i].name == name) return i;
  }
  std::vector<std::string> names;
  names.reserve(captures.size());
  for (const CaptureInfo& candidate : captures) names.push_back(shown(candidate.name));
  throw UsageError(fmt::format("{}: capture: wanted one of {}, found '{}'", shown(path.string()),
                               fmt::join(names, ", "), shown(name)));
}

struct Dump::State {
  DumpInfo info;
  mutable DumpProcess process;

  /// The head of a dataset that belongs to a query head; valid until the next call.
  [[nodiscard]] DumpHead read(const CaptureInfo& capture, char dataset, Index head) const {
    if (head < 0 || head >= info.heads) {
      throw UsageError(
          fmt::format("{}: head: wanted 0 to {}, found {}", shown(info.path.string()), info.heads - 1, head));
    }
    const bool key_value = dataset == 'k' || dataset == 'v';
    const std::size_t place = info.place_of(capture.name);
    const DumpRequest request{static_cast<Index>(place), dataset, key_value ? info.kv_head(head) : head};
    const std::string path = capture_path(info.captures[place].name) + "/" + dataset;
    const DumpAnswer answer = process.ask(request);
    const auto element = static_cast<Element>(answer.kind);
    const bool is_element = std::ranges::count(choices_of(kElements), element) != 0;
    const auto wanted = bytes_of(element) * static_cast<std::size_t>(info.grid.tokens() * info.head_dim);
    if (!is_element || answer.size != wanted) {
      throw DumpError(info.path, path, fmt::format("{} bytes a head", wanted), fmt::format("{}", answer.size));
    }
    return {info.path, path, request.head, answer.bytes, element, info.grid.tokens(), info.head_dim};
  }

  /// Where a head's numbers come from, for messages.
  [[nodiscard]] std::string source(const CaptureInfo& capture, Index head) const {
    return fmt::format("{}:{} head {}", file_name(info), shown(capture_path(capture.name)), head);
  }
};

Dump::Dump(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dump::Dump(Dump&&) noexcept = default;
Dump& Dump::operator=(Dump&&) noexcept = default;
Dump::~Dump() = default;

Dump Dump::open(const std::filesystem::path& path) {
  auto state = std::unique_ptr<State>(new State{{}, {path, size_of_file(path), [&] { return answer_from(path); }}});
  const DumpAnswer structure = state->process.ask({});
  try {
    state->info = from_wire({static_cast<const char*>(structure.bytes), structure.size});
  } catch (const std::exception& error) {
    throw DumpError(path, "file", "what HDF5 can read", error.what());
  }
  state->info.path = path;
  return Dump(std::move(state));
}

const DumpInfo& Dump::info() const { return state_->info; }

Problem Dump::load(const CaptureInfo& capture, Index head) const {
  return {info().grid,
          load_tensor(capture, 'q', head),
          load_tensor(capture, 'k', head),
          load_tensor(capture, 'v', head),
          capture.softmax_scale,
          state_->source(capture, head)};
}

Problem Dump::problem_of(const CaptureInfo& capture, Index head, const HalfHead& bits) const {
  const auto numbers = [&](const std::vector<std::uint16_t>& tensor) {
    return from_bits(tensor, info().head_dim, bits.element);
  };
  return {info().grid,     numbers(bits.q),       numbers(bits.k),
          numbers(bits.v), capture.softmax_scale, state_->source(capture, head)};
}

Matrix Dump::load_tensor(const CaptureInfo& capture, char dataset, Index head) const {
  return state_->read(capture, dataset, head).matrix();
}

HalfHead Dump::load_half(const CaptureInfo& capture, Index head, Element element) const {
  const auto read = [&](char dataset) {
    const DumpHead own = state_->read(capture, dataset, head);
    if (own.element == element) return own.bits();
    return to_bits(own.matrix(), element, fmt::format("{} {} head {}", shown(info().path.string()), dataset, head));
  };
  return {element, read('q'), read('k'), read('v')};
}

std::optional<Matrix> Dump::load_output(const CaptureInfo& capture, Index head) const {
  if (!capture.has_output) return std::nullopt;
  return load_tensor(capture, 'o', head);
}

}  // namespace draft
