// The reference's sweeps: all partitions at once, over the atoms of their common refinement.
#include "experiments/study/sweeps.hpp"

namespace draft {
namespace {

class ReferenceSweeps : public Sweeps {
 public:
  void load(const Problem& problem, const HalfHead*, std::span<const Partition> partitions, int threads) override {
    problem_ = &problem;
    partitions_ = partitions;
    threads_ = threads;
    stripes_.reset();  // the last head's, before there is another
    const Partition atoms = common_refinement(partitions);
    stripes_ = std::make_unique<Stripes>(problem, atoms);
    parent_.clear();
    for (const Partition& partition : partitions) parent_.push_back(parents(atoms, partition));
  }

  LogitSweep logits(std::span<const MapRequest> requests, const Progress& progress) override {
    std::vector<DeviationRequest> wanted;
    for (const MapRequest& request : requests) wanted.push_back({*request.logits, parent_[request.partition]});
    LogitStats fine = sweep_logits(*stripes_, wanted, threads_, progress);
    LogitSweep sweep;
    for (std::size_t p = 0; p < partitions_.size(); ++p) {
      sweep.stats.push_back(coarsened(fine, stripes_->atoms, parent_[p], partitions_[p].regions()));
    }
    sweep.deviations = std::move(fine.deviations);
    lse_ = std::move(fine.lse);
    return sweep;
  }

  MaskSweep masks(std::vector<MaskFamily> families, const Progress& progress) override {
    return sweep_masks(*stripes_, lse_, families, parent_, threads_, progress);
  }

  [[nodiscard]] std::vector<Index> row_region(std::size_t partition) const override {
    std::vector<Index> region;
    for (Index atom = 0; atom < stripes_->atom_count(); ++atom) {
      region.insert(region.end(), static_cast<std::size_t>(stripes_->atom_size(atom)), parent_[partition][atom]);
    }
    return region;
  }

  [[nodiscard]] Slack slack() const override { return reference_slack(*problem_); }

 private:
  const Problem* problem_ = nullptr;
  std::span<const Partition> partitions_;
  int threads_ = 0;
  std::unique_ptr<Stripes> stripes_;
  std::vector<std::vector<Index>> parent_;  // [partition][atom] -> region
  LogSums lse_;
};

}  // namespace

std::unique_ptr<Sweeps> make_reference_sweeps() { return std::make_unique<ReferenceSweeps>(); }

}  // namespace draft
