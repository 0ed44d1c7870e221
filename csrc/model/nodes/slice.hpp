// Slice: neighbouring elements of an array.
#pragma once

#include "model/node.hpp"

namespace klqp {

// out (n) = x [begin, begin + n)
class Slice final : public Node {
 public:
  Slice(Index begin, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), begin_(begin) {
    if (begin < 0 || begin + output->size > in(0).size) throw ConfigError("a slice reaches beyond its array");
  }

  void forward(Index n_draws, Team&) override {
    for (Index s = 0; s < output_->rows(n_draws); ++s) {
      std::copy_n(in(0).at(s) + begin_, output_->size, output_->at(s));
    }
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      kernels().axpy(output_->size, 1.0, output_->adjoint_at(s), in(0).adjoint_at(s) + begin_);
    });
  }

 private:
  Index begin_;
};

}  // namespace klqp
