#pragma once
// The heads of a dump that a command line asks for, and what a record says of them.

#include <optional>
#include <string>
#include <vector>

#include "harness/dump/dump.hpp"
#include "harness/ranks/ranks.hpp"
#include "harness/record/record.hpp"

namespace draft {

struct HeadTask {
  const CaptureInfo* capture;
  Index head;
  std::uint64_t stream;  // this head's place in the dump: independent of what else is chosen
};

/// The names of --capture: each text that names a capture as a whole, for a name may have commas, else its parts.
/// Throws UsageError on one that is not there.
std::vector<std::string> chosen_captures(const DumpInfo& info, const Options& options);

/// Every chosen head of every chosen capture, by capture. Throws UsageError on one that is not there.
std::vector<HeadTask> chosen_heads(const DumpInfo& info, const Options& options);

/// Throws UsageError if the dump's attention is causal; `what` does not know that.
void require_not_causal(const DumpInfo& info, const std::string& what);

/// All heads of a capture, which is one call, in their order.
std::vector<HeadTask> heads_of_call(const DumpInfo& info, const CaptureInfo& capture);

/// The number in `other` of the head that is `head` in `capture`: by the model's own numbers where both have them, else
/// the same number. None if it is not there.
std::optional<Index> same_head(const CaptureInfo& capture, Index head, const CaptureInfo& other);

/// The latest capture of an earlier step that has this head, of the same layer, prompt and branch; null if none has.
const CaptureInfo* earlier_capture(const DumpInfo& info, const HeadTask& task);

/// The record format's `grid`: extents of the video's tokens.
Json grid_json(const Grid& grid);

/// The dump's SHA-256, which one rank of each machine reads. Throws as Ranks::require_same() unless all ranks have the
/// same build, GPU and dump: their records are of one run. UsageError if the dump cannot be read.
std::string digest_on_all(Ranks& ranks, const std::string& dump);

/// The record format's `input`. `sha256` is the dump file's.
Json input_of(const DumpInfo& info, const std::string& sha256, const HeadTask& task);

}  // namespace draft
