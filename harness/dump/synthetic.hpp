#pragma once
// A dump of made-up heads.

#include <filesystem>
#include <string>

#include "harness/numbers/element.hpp"
#include "harness/numbers/synthetic.hpp"

namespace draft {

/// Writes every head of `spec` as the only capture, named by the kind ("iid"), of the model "synthetic"; `source` is
/// the root attribute. Not to be used while another thread uses HDF5. Throws UsageError as DumpWriter does.
void write_synthetic_dump(const std::filesystem::path& path, const SyntheticSpec& spec, Element element,
                          const std::string& source);

}  // namespace draft
