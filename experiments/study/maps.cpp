#include "experiments/study/maps.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string>

#include "experiments/study/tables.hpp"

namespace draft {
namespace {

/// Mean over a block row's tokens of the mass in each block, rows sum to at most 1, [regions, regions].
Matrix mean_block_mass(const HeadStudy& study, RegionSize region) {
  const Partition& partition = study.partition(region);
  Matrix mass = study.stats(region).mass;
  for (Index i = 0; i < partition.regions(); ++i) mass.row(i) /= static_cast<double>(partition.size(i));
  return mass;
}

/// To five significant digits: a record would be several times as long with all of them. Not std::stod, which throws
/// for numbers below the smallest normal one.
double five_digits(double number) {
  const std::string text = fmt::format("{:.5g}", number);
  double rounded = number;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return rounded;
}

nlohmann::ordered_json rounded_rows(const Matrix& matrix) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (Index i = 0; i < matrix.rows(); ++i) {
    nlohmann::ordered_json row = nlohmann::ordered_json::array();
    for (Index j = 0; j < matrix.cols(); ++j) row.push_back(five_digits(matrix(i, j)));
    rows.push_back(std::move(row));
  }
  return rows;
}

void print_maps(const std::vector<Record>& records) {
  StudyTable table(
      "Where each head's dense attention goes, shares of its mass; recall of the mask shown in the maps",
      {"capture", "head", "same region", "same frame", "same position", "text", "effective blocks", "recall"});
  for (const Record& record : records) {
    const auto shown = [&](const char* name) { return metric_text(metric_of(record["metrics"], name)); };
    table.row({record["input"]["capture"], fmt::to_string(record["input"]["head"].get<Index>()),
               shown("mass_same_region"), shown("mass_same_frame"), shown("mass_same_position"), shown("mass_text"),
               shown("effective_blocks"), shown("attention_recall")});
  }
  table.print(records.size());
}

}  // namespace

StudyExperiment maps_experiment(const Options& options) {
  const RegionSize region = options.regions.empty() ? RegionSize{8, 16} : options.regions.front();
  const Cell cell{{Policy::draft, Pool::average, Rule::softmax, region, 0.9}, false};
  return {.name = "maps", .cells = {cell}, .with_maps = true, .table = print_maps};
}

Metrics head_character(const HeadStudy& study, RegionSize region) {
  const Partition& partition = study.partition(region);
  const Matrix& mass = study.stats(region).mass;
  const Index per_frame = partition.regions_per_frame();
  double same_region = 0.0, same_frame = 0.0, same_position = 0.0, effective = 0.0;
  Index with_mass = 0;  // block rows whose attention goes to video at all
  for (Index i = 0; i < partition.regions(); ++i) {
    const double row = mass.row(i).sum();
    double entropy = 0.0;
    for (Index j = 0; j < partition.regions(); ++j) {
      if (i == j) same_region += mass(i, j);
      if (i / per_frame == j / per_frame) same_frame += mass(i, j);
      if (i % per_frame == j % per_frame) same_position += mass(i, j);
      const double p = row > 0.0 ? mass(i, j) / row : 0.0;
      if (p > 0.0) entropy -= p * std::log(p);
    }
    if (row == 0.0) continue;
    effective += std::exp(entropy);
    ++with_mass;
  }
  const double rows = static_cast<double>(partition.grid().video());
  return {{"mass_same_region", same_region / rows},
          {"mass_same_frame", same_frame / rows},
          {"mass_same_position", same_position / rows},
          {"mass_text", study.stats(region).text_mass.sum() / rows},
          {"effective_blocks", ratio(effective, static_cast<double>(with_mass))}};
}

nlohmann::ordered_json mask_rows(const BlockMask& mask) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (Index i = 0; i < mask.regions(); ++i) {
    std::string row;
    for (Index j = 0; j < mask.regions(); ++j) row += mask.kept(i, j) ? '1' : '0';
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::ordered_json map_arrays(HeadStudy& study, const Cell& cell, const BlockMask& mask) {
  return {{"draft_map", rounded_rows(study.map(cell.region, cell.pool).probabilities())},
          {"block_mass", rounded_rows(mean_block_mass(study, cell.region))},
          {"mask", mask_rows(mask)}};
}

}  // namespace draft
