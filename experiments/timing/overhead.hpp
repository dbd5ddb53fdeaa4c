#pragma once
// Question: what do finding the blocks and moving the tokens cost beside the sparse attention itself (section 3.3)?
// Command:  draftbench overhead DUMP|SHAPE [--sparsity LIST] [--kernel NAMES] --out FILE.jsonl
// Output:   records "overhead": the time of every part from pooling to attention, each timed alone, and of the whole
//           draft, as shares of the attention's time in the same run.

#include <string>
#include <vector>

#include "experiments/input/masks.hpp"
#include "experiments/input/timed_options.hpp"
#include "harness/record/record.hpp"

namespace draft {

namespace gpu {
struct AttentionKernel;
}

/// What a part must at least read and write, in bytes; 0 where arithmetic and not memory bounds it. `channels` is
/// tokens * head_dim of all heads. Parts as in the records: pool (video tokens of q and k in, fp32 regions
/// out),
/// select (the fp32 map), lists (the map, and the lists), reorder (q, k and v in and out), restore (o in and out).
double part_bytes(const std::string& part, const KeptCounts& counts, Index tokens, Index video, Index head_dim);

/// Times every part at each sparsity (0.6, 0.8, 0.9), for each kernel (the first of wgmma and mma that does the call):
/// pool, map (with the softmax if the rule wants it), select, lists; draft: these as one piece, what a
/// user pays; attention, from token order; and, for kernels that want regions side by side, reorder, restore and
/// attention_gather with both. Returns kExitCheckFailed if a part failed. Needs a GPU, and throws, as latency().
int overhead(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels);
/// With the kernels of this build.
int overhead(const TimedOptions& options);

}  // namespace draft
