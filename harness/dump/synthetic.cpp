#include "harness/dump/synthetic.hpp"

#include "harness/dump/writer.hpp"

namespace draft {

void write_synthetic_dump(const std::filesystem::path& path, const SyntheticSpec& spec, Element element,
                          const std::string& source) {
  DumpWriter writer(path, {"synthetic", source, spec.grid});
  CaptureInfo capture;
  capture.name = to_string(spec.kind);
  CaptureLayout layout;
  layout.heads = spec.heads;
  layout.kv_heads = spec.kv_heads;
  layout.head_dim = spec.head_dim;
  layout.element = element;
  writer.add_capture(capture, layout);
  for (Index head = 0; head < spec.heads; ++head) {
    const Problem problem = synthetic_head(spec, head);
    writer.write_head(head, problem.q, problem.k, problem.v);
  }
  writer.finish();
}

}  // namespace draft
