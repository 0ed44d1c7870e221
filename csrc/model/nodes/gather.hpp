// Gather: blocks of an array by index: rows by integer index, slices, transposes, broadcasts.
#pragma once

#include <cmath>

#include "model/node.hpp"

namespace klqp {

// out (n, width) = x (rows, width) at index (n). The index is data: a second input that holds integers.
class Gather final : public Node {
 public:
  Gather(Index width, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), width_(width) {
    require_inputs(2);
    if (!in(1).fixed) throw ConfigError("the index of a gather must be data");
    if (width < 1 || in(1).size * width != output->size || in(0).size % width != 0) {
      throw ConfigError("a gather of " + std::to_string(in(1).size) + " blocks of " + std::to_string(width) +
                        " numbers cannot give " + std::to_string(output->size));
    }
    index_.resize(static_cast<std::size_t>(in(1).size));
  }

  void data_changed() override {
    const Index rows = in(0).size / width_;
    for (std::size_t i = 0; i < index_.size(); ++i) {
      const double at = in(1).value[i];
      if (!(at >= 0.0 && at < static_cast<double>(rows)) || at != std::floor(at)) {
        throw ConfigError("an index must be an integer in [0, " + std::to_string(rows) + "), not " +
                          std::to_string(at));
      }
      index_[i] = static_cast<Index>(at) * width_;
    }
    std::size_t runs = 0;
    for (std::size_t i = 0; i < index_.size(); ++i) runs += i == 0 || index_[i] != index_[i - 1];
    long_runs_ = index_.size() >= kLongRun * runs;
  }

  void forward(Index n_draws, Team& team) override {
    const auto n = static_cast<Index>(index_.size());
    for_pieces(team, 0, output_->rows(n_draws), n, grain(), [&](Index s, Index begin, Index end) {
      const double* const x = in(0).at(s);
      double* const out = output_->at(s);
      if (width_ == 1) {
        for (Index i = begin; i < end; ++i) out[i] = x[index_[i]];
        return;
      }
      for (Index i = begin; i < end; ++i) {
        for (Index j = 0; j < width_; ++j) out[i * width_ + j] = x[index_[i] + j];
      }
    });
  }

  // Two elements may come from one block, so that a row is one thread's.
  void backward(const Sweep& sweep) override {
    const Slot& x = in(0);
    if (!x.active) return;
    if (!x.per_draw) return sweep.for_each_row(output_->per_draw, [&](Index s) { scatter(s); });
    sweep.for_rows(true, [&](Index first, Index n) {
      sweep.team.for_range(n, std::max<Index>(1, 8192 / output_->size), [&](Index begin, Index end) {
        for (Index s = first + begin; s < first + end; ++s) scatter(s);
      });
    });
  }

  // Where the index points to, in elements of x.
  const std::vector<Index>& offsets() const noexcept { return index_; }
  Index width() const noexcept { return width_; }

 private:
  void scatter(Index s) const noexcept {
    const auto n = static_cast<Index>(index_.size());
    double* const to = in(0).adjoint_at(s);
    const double* const from = output_->adjoint_at(s);
    if (width_ == 1 && long_runs_) return scatter_runs(from, to);
    if (width_ == 1) {
      for (Index i = 0; i < n; ++i) to[index_[i]] += from[i];
      return;
    }
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < width_; ++j) to[index_[i] + j] += from[i * width_ + j];
    }
  }

  // Neighbours that come from one element are summed before they get there: through memory each would wait for the one
  // before.
  void scatter_runs(const double* from, double* to) const noexcept {
    const auto n = static_cast<Index>(index_.size());
    for (Index i = 0; i < n;) {
      const Index at = index_[i];
      double sum = from[i];
      for (++i; i < n && index_[i] == at; ++i) sum += from[i];
      to[at] += sum;
    }
  }

  Index grain() const noexcept { return std::max<Index>(1, 8192 / width_); }

  static constexpr std::size_t kLongRun = 8;  // elements, on average: shorter ones cost more in branches than they save

  Index width_;
  std::vector<Index> index_;  // of the first element of each block
  bool long_runs_ = false;    // whether neighbours mostly come from one block
};

}  // namespace klqp
