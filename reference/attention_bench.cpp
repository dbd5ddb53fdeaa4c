// Question: what does the reference cost beside Eigen's own float64 matrix product on the same cores,
//           and what do further masks add to one pass?
// Command:  reference_bench [Google Benchmark's options]
// Output:   Google Benchmark's table, then the two ratios.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

#include "reference/attention.hpp"
#include "reference/bounds/mask_sweep.hpp"
#include "reference/naive.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

const Grid kGrid{8, 32, 48, 0};  // n = 12,288: the paper's 512p latent grid, 8 frames
constexpr Index kHeadDim = 128;

const Problem& problem() {
  static const Problem instance = naive::random_problem(kGrid, kHeadDim, 1.0, 1);
  return instance;
}

void count_flops(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

/// One product, with its rows distributed over the cores as the reference distributes its row chunks.
void eigen_product(benchmark::State& state) {
  constexpr Index kRows = 4096, kInner = 2048, kColumns = 4096;
  const Matrix a = Matrix::Random(kRows, kInner), b = Matrix::Random(kInner, kColumns);
  Matrix c(kRows, kColumns);
  const Index bands = thread_count(0);
  for (auto _ : state) {
    parallel_for(bands, 0, [&] {
      return [&](Index band) {
        const Index first = band * kRows / bands, size = (band + 1) * kRows / bands - first;
        c.middleRows(first, size).noalias() = a.middleRows(first, size) * b;
      };
    });
    benchmark::DoNotOptimize(c.data());
  }
  count_flops(state, 2.0 * kRows * kInner * kColumns);
}

void dense_attention(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(attend_dense(problem()).o.data());
  const double n = static_cast<double>(kGrid.tokens());
  count_flops(state, 4.0 * n * n * kHeadDim);
}

/// Both sweeps for the first `count` of five masks of different rules, poolings and sparsities.
void masks_in_one_pass(benchmark::State& state) {
  const std::vector<std::tuple<Pool, Rule, double>> choice{{Pool::average, Rule::softmax, 0.9},
                                                           {Pool::maximum, Rule::softmax, 0.8},
                                                           {Pool::average, Rule::row, 0.75},
                                                           {Pool::average, Rule::logits, 0.6},
                                                           {Pool::average, Rule::released, 0.5}};
  const Partition partition(kGrid, RegionSize{8, 16});
  for (auto _ : state) {
    const Stripes stripes(problem(), partition);
    const std::vector<std::vector<Index>> same{parents(partition, partition)};
    std::vector<MaskFamily> families;
    for (Index i = 0; i < state.range(0); ++i) {
      const auto& [pool, rule, sparsity] = choice[static_cast<std::size_t>(i)];
      const DraftMap map = draft_scores(problem(), partition, pool);
      families.push_back({0, rank_by_rule(map, rule), {rule_cut(map, rule, sparsity)}});
    }
    const LogitStats stats = sweep_logits(stripes, {}, 0);
    benchmark::DoNotOptimize(sweep_masks(stripes, stats.lse, families, same, 0).dense.norm);
  }
}

BENCHMARK(eigen_product)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(2.0);
BENCHMARK(dense_attention)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(4.0);
BENCHMARK(masks_in_one_pass)->Arg(1)->Arg(5)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(6.0);

/// Prints Google Benchmark's table and keeps each benchmark's real time for the ratios.
class KeepingReporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      const std::string name = run.run_name.function_name + run.run_name.args;
      real_time[name] = run.GetAdjustedRealTime();
      const auto rate = run.counters.find("GFLOP/s");
      if (rate != run.counters.end()) gflops[name] = rate->second.value;
    }
  }
  std::map<std::string, double> real_time, gflops;
};

}  // namespace
}  // namespace draft

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  draft::KeepingReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  const auto& rate = reporter.gflops;
  const auto& time = reporter.real_time;
  if (rate.contains("dense_attention") && rate.contains("eigen_product")) {
    std::printf("dense attention (n = 12288, d = 128) reaches %.0f%% of Eigen's matrix product\n",
                100.0 * rate.at("dense_attention") / rate.at("eigen_product"));
  }
  if (time.contains("masks_in_one_pass1") && time.contains("masks_in_one_pass5")) {
    std::printf("five masks in one pass cost %.2f times one\n",
                time.at("masks_in_one_pass5") / time.at("masks_in_one_pass1"));
  }
  return 0;
}
