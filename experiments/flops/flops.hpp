#pragma once
// Question: where do the FLOPs of a video go, and is Table 1's PFLOPs column what skipping blocks saves?
// Paper:    Table 1 (PFLOPs), Figure 1 (share of attention, HunyuanVideo 720p); computed, nothing is run.
// Command:  draftbench flops --out FILE.jsonl
// Output:   records "flops", config.part "table_1" (one a printed row: printed, quadratic fit, linear model),
//           "breakdown" (parts of one dense video) and "duration" (Figure 1).
//
// What reproduces the printed figures: Wan2.1 needs 50 steps x 2 passes, only one of the MLP's two matrices,
// 45 x 80 tokens a frame for "768p" (which has 48 x 80), and the released code's dense part (15 of 50 steps and
// block 0); then every row agrees to 0.01 PFLOPs. HunyuanVideo at 768p as stated, counted in full, gives
// 680.6 of the printed 682.67 PFLOPs; where the other 0.3% comes from is not known.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "experiments/input/models.hpp"

namespace draft {

/// One printed row of Table 1 beside the models, in PFLOPs.
struct Table1Row {
  PrintedFlops printed;
  std::int64_t tokens;       // of self-attention, at the stated resolution
  double quadratic;          // least-squares fit base + A (1 - sparsity)^2
  double reconstructed;      // quadratic in the kept share too, but from the architecture counted as printed
  double linear_as_printed;  // as reconstructed, with the kept share instead of its square
  double linear;             // kept blocks only; first 25% of the steps dense (the paper's text)
  double linear_all_steps;   // the same without a dense part
  double linear_released;    // the same with the released code's dense part
};
std::vector<Table1Row> table_1_rows();

/// Parts of one dense video.
struct BreakdownRow {
  TransformerShape shape;
  Counting counting;
  FlopParts parts;
  std::optional<double> printed;  // Table 1's dense figure, if it is for this model and resolution
};
std::vector<BreakdownRow> breakdown_rows();

/// Figure 1: HunyuanVideo 720p (45 x 80 tokens a latent frame), 24 frames a second, frames / 4 + 1 latent frames.
struct DurationRow {
  double seconds;
  TransformerShape shape;
  FlopParts parts;
};
std::vector<DurationRow> duration_rows(const std::vector<double>& seconds = {1, 2, 4, 8, 16, 32});

/// All of the above as records.
std::vector<nlohmann::ordered_json> flop_records();

}  // namespace draft
