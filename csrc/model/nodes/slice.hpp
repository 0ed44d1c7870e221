// Slice: neighbouring elements of an array.
#pragma once

#include "model/node.hpp"

namespace klqp {

// out (n) = x [begin, begin + n)
class Slice final : public Node {
 public:
  Slice(Index begin, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), begin_(begin) {
    require_inputs(1);
    if (begin < 0 || begin + output->size > in(0).size) throw ConfigError("a slice reaches beyond its array");
  }

  void forward(Index n_draws, Team& team) override {
    for_pieces(team, 0, output_->rows(n_draws), output_->size, kGrain, [&](Index s, Index begin, Index end) {
      const double* const x = in(0).at(s) + begin_;
      double* const out = output_->at(s);
      for (Index i = begin; i < end; ++i) out[i] = x[i];
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      for_pieces(sweep.team, first, n, output_->size, kGrain, [&](Index s, Index begin, Index end) {
        const double* const from = output_->adjoint_at(s);
        double* const to = in(0).adjoint_at(s) + begin_;
        for (Index i = begin; i < end; ++i) to[i] += from[i];
      });
    });
  }

 private:
  static constexpr Index kGrain = 16384;

  Index begin_;
};

}  // namespace klqp
