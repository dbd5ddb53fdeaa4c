// A first look: from a captured attention call to a draft mask to the attention that it keeps, head 0 of the first
// capture. first_look.py computes the same numbers. Usage: first_look DUMP [SPARSITY = 0.9]

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>

#include "harness/dump/dump.hpp"
#include "reference/bounds/logit_sweep.hpp"
#include "reference/draft_mask.hpp"

int main(int argc, char** argv) try {
  if (argc < 2) throw draft::UsageError("wanted first_look DUMP [SPARSITY], found no dump");
  const double sparsity = argc > 2 ? std::stod(argv[2]) : 0.9;
  const draft::Dump dump = draft::Dump::open(argv[1]);
  const draft::CaptureInfo& capture = dump.info().captures[0];
  const draft::Problem problem = dump.load(capture, 0);  // q, k, v [tokens, head_dim]: video, then text tokens

  // A region is 8 x 16 tokens of one frame, smaller at the edges. Text is in no region and always kept.
  const draft::Partition partition(problem.grid, draft::RegionSize{8, 16});
  const draft::Index regions = partition.regions();

  // The draft: pooled queries and keys (eq. 2), attention between them (eqs. 6 and 3), its highest blocks.
  const draft::DraftMap map = draft::draft_scores(problem, partition, draft::Pool::average);
  const draft::BlockMask draft_mask = draft::select(map, draft::Rule::softmax, sparsity);
  const draft::BlockMask random_mask(draft::random_ranking(regions, 1, 0), draft_mask.kept_blocks());  // seed 1

  // Recall: the share of the dense attention's mass that lies in kept blocks, as a mean over video queries.
  const draft::LogitStats stats = draft::sweep_logits(draft::Stripes(problem, partition), {}, 0);
  const auto recall = [&](const draft::BlockMask& mask) {
    double mass = stats.text_mass.sum();
    for (draft::Index i = 0; i < regions; ++i) {
      for (const draft::Index j : mask.columns(i)) mass += stats.mass(i, j);
    }
    return mass / static_cast<double>(problem.grid.video());
  };

  fmt::print("capture {}, head 0: {} regions\n", capture.name, regions);
  const auto kept = static_cast<double>(draft_mask.kept_blocks()), blocks = static_cast<double>(regions * regions);
  fmt::print("kept    {:.6f} of {} blocks\n", kept / blocks, blocks);
  fmt::print("recall  {:.12f} of the draft mask, {:.12f} of a random mask\n", recall(draft_mask), recall(random_mask));
} catch (const std::exception& error) {
  fmt::print(stderr, "first_look: {}\n", error.what());
  return 2;
}
