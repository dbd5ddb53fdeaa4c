#include "experiments/flops/flops.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "experiments/input/command.hpp"
#include "harness/options.hpp"
#include "harness/record/record.hpp"
#include "harness/table.hpp"

namespace draft {
namespace {

using Json = nlohmann::ordered_json;

struct StatedModel {
  TransformerShape stated;   // at the resolution that the paper states
  TransformerShape printed;  // at the grid that reproduces the printed figure
};

/// Table 1's models. The "768p" row of Wan2.1 is reproduced by 720p's 45 x 80 tokens a frame.
const std::vector<StatedModel>& stated_models() {
  static const std::vector<StatedModel> models = {
      {wan_14b("512p", 21, 32, 48), wan_14b("512p", 21, 32, 48)},
      {wan_14b("768p", 21, 48, 80), wan_14b("768p", 21, 45, 80)},
      {hunyuan_video("768p", 33, 48, 80), hunyuan_video("768p", 33, 48, 80)},
  };
  return models;
}

const StatedModel& stated_model(const PrintedFlops& row) {
  for (const StatedModel& model : stated_models()) {
    if (model.stated.model == row.model && model.stated.resolution == row.resolution) return model;
  }
  throw std::logic_error("no architecture for " + row.model + " " + row.resolution);
}

std::optional<double> printed_dense(const TransformerShape& shape) {
  for (const PrintedFlops& row : table_1_flops()) {
    if (row.model == shape.model && row.resolution == shape.resolution && row.sparsity == 0) return row.pflops;
  }
  return std::nullopt;
}

std::string to_string(Counting counting) { return counting == Counting::printed ? "printed" : "architecture"; }

Json input_of(const TransformerShape& shape) {
  return {{"model", shape.model}, {"resolution", shape.resolution}, {"tokens", shape.tokens()}};
}

Json metrics_of(const FlopParts& parts) {
  return {{"pflops_attention", parts.attention},
          {"pflops_projections", parts.projections},
          {"pflops_mlp", parts.mlp},
          {"pflops_cross_attention", parts.cross_attention},
          {"pflops_other", parts.other},
          {"pflops_total", parts.total()},
          {"attention_share", parts.attention_share()}};
}

std::string two_decimals(double value) { return fmt::format("{:.2f}", value); }

void print_tables() {
  Table table_1({{"model", Align::left},
                 {"size", Align::left},
                 {"method", Align::left},
                 {"sparsity"},
                 {"printed"},
                 {"quadratic fit"},
                 {"reconstructed"},
                 {"with k for k^2"},
                 {"linear"},
                 {"no dense part"},
                 {"released"}});
  for (const Table1Row& row : table_1_rows()) {
    table_1.add_row({row.printed.model, row.printed.resolution, row.printed.method, number(row.printed.sparsity),
                     two_decimals(row.printed.pflops), two_decimals(row.quadratic), two_decimals(row.reconstructed),
                     two_decimals(row.linear_as_printed), two_decimals(row.linear), two_decimals(row.linear_all_steps),
                     two_decimals(row.linear_released)});
  }
  Table breakdown({{"model", Align::left},
                   {"size", Align::left},
                   {"tokens"},
                   {"counting", Align::left},
                   {"attention"},
                   {"projections"},
                   {"MLP"},
                   {"cross"},
                   {"other"},
                   {"total"},
                   {"printed"}});
  for (const BreakdownRow& row : breakdown_rows()) {
    breakdown.add_row({row.shape.model, row.shape.resolution, fmt::to_string(row.shape.tokens()),
                       to_string(row.counting), two_decimals(row.parts.attention), two_decimals(row.parts.projections),
                       two_decimals(row.parts.mlp), two_decimals(row.parts.cross_attention),
                       two_decimals(row.parts.other), two_decimals(row.parts.total()),
                       row.printed ? two_decimals(*row.printed) : "-"});
  }
  Table durations({{"seconds"}, {"tokens"}, {"PFLOPs"}, {"attention share"}});
  for (const DurationRow& row : duration_rows()) {
    durations.add_row({number(row.seconds), fmt::to_string(row.shape.tokens()), two_decimals(row.parts.total()),
                       fmt::format("{:.1f}%", 100 * row.parts.attention_share())});
  }
  fmt::print("Table 1, PFLOPs a video (k = 1 - sparsity)\n");
  table_1.print();
  fmt::print("\nParts of one dense video, PFLOPs\n");
  breakdown.print();
  fmt::print("\nFigure 1: HunyuanVideo 720p at 24 frames a second\n");
  durations.print();
}

}  // namespace

std::vector<Table1Row> table_1_rows() {
  std::vector<Table1Row> rows;
  for (const PrintedFlops& printed : table_1_flops()) {
    const StatedModel& model = stated_model(printed);
    const QuadraticFit fit = quadratic_fit(table_1_flops(), printed.model, printed.resolution);
    const FlopParts parts = dense_flops(model.stated, Counting::architecture);
    const FlopParts as_printed = dense_flops(model.printed, Counting::printed);
    const double kept = 1 - printed.sparsity;
    const auto linear = [&](DenseRule rule) { return sparse_flops(parts, sparse_share(model.stated, rule), kept); };
    const double released = sparse_share(model.printed, DenseRule::released);
    rows.push_back({.printed = printed,
                    .tokens = model.stated.tokens(),
                    .quadratic = fit.at(printed.sparsity),
                    .reconstructed = sparse_flops(as_printed, released, kept * kept),
                    .linear_as_printed = sparse_flops(as_printed, released, kept),
                    .linear = linear(DenseRule::first_quarter),
                    .linear_all_steps = linear(DenseRule::none),
                    .linear_released = linear(DenseRule::released)});
  }
  return rows;
}

std::vector<BreakdownRow> breakdown_rows() {
  std::vector<BreakdownRow> rows;
  for (const StatedModel& model : stated_models()) {
    const std::optional<double> printed = printed_dense(model.stated);
    rows.push_back({model.stated, Counting::architecture, dense_flops(model.stated, Counting::architecture), printed});
    rows.push_back({model.printed, Counting::printed, dense_flops(model.printed, Counting::printed), printed});
  }
  return rows;
}

std::vector<DurationRow> duration_rows(const std::vector<double>& seconds) {
  std::vector<DurationRow> rows;
  for (const double length : seconds) {
    const auto latent_frames = static_cast<std::int64_t>(std::floor(length * 24 / 4)) + 1;
    const TransformerShape shape = hunyuan_video("720p", latent_frames, 45, 80);
    rows.push_back({length, shape, dense_flops(shape, Counting::architecture)});
  }
  return rows;
}

std::vector<Json> flop_records() {
  std::vector<Json> records;
  for (const Table1Row& row : table_1_rows()) {
    const TransformerShape& shape = stated_model(row.printed).stated;
    Json config{{"part", "table_1"}};
    config["method"] = row.printed.method;
    config["sparsity"] = row.printed.sparsity;
    records.push_back(make_record("flops", input_of(shape), std::move(config),
                                  {{"pflops_printed", row.printed.pflops},
                                   {"pflops_quadratic", row.quadratic},
                                   {"pflops_reconstructed", row.reconstructed},
                                   {"pflops_linear_as_printed", row.linear_as_printed},
                                   {"pflops_linear", row.linear},
                                   {"pflops_linear_all_steps", row.linear_all_steps},
                                   {"pflops_linear_released", row.linear_released}}));
  }
  for (const BreakdownRow& row : breakdown_rows()) {
    Json config{{"part", "breakdown"}};
    config["counting"] = to_string(row.counting);
    Json metrics = metrics_of(row.parts);
    if (row.printed) metrics["pflops_printed"] = *row.printed;
    records.push_back(make_record("flops", input_of(row.shape), std::move(config), std::move(metrics)));
  }
  for (const DurationRow& row : duration_rows()) {
    Json config{{"part", "duration"}};
    config["counting"] = to_string(Counting::architecture);
    config["seconds"] = row.seconds;
    records.push_back(make_record("flops", input_of(row.shape), std::move(config), metrics_of(row.parts)));
  }
  return records;
}

namespace {

Action flops_options(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  add_options(command, *options, {});
  return [options] {
    RecordLog log = open_log(*options);
    for (const Json& record : flop_records()) {
      if (!log.contains(record)) log.append(record);
    }
    if (!options->quiet) print_tables();
    return kExitFine;
  };
}

}  // namespace

Command flops_command() {
  return {"flops",
          "Computes Figure 1 and Table 1's PFLOPs from the models' architectures",
          "Figure 1 and Table 1's PFLOPs column",
          "--out records.jsonl",
          false,
          flops_options};
}

}  // namespace draft
