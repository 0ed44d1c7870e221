// Transform: the values of a variable from unconstrained coordinates, with the log-Jacobians.
#pragma once

#include <memory>

#include "model/bijectors/bijector.hpp"
#include "model/node.hpp"

namespace klqp {

// z (n_constrained) and log|J| (n_events) = bijector(u [begin, begin + n_unconstrained)).
class Transform final : public Node {
 public:
  Transform(std::unique_ptr<Bijector> bijector, Index begin, std::vector<Slot*> inputs, Slot* output,
            Slot* log_jacobian)
      : Node(std::move(inputs), output), bijector_(std::move(bijector)), begin_(begin), log_jacobian_(log_jacobian) {
    if (begin < 0 || begin + bijector_->n_unconstrained() > in(0).size || output->size != bijector_->n_constrained() ||
        log_jacobian->size != bijector_->n_events()) {
      throw ConfigError("the sizes of a transform do not fit together");
    }
  }

  bool elementwise() const override { return bijector_->n_events() == in(0).size && output_->size == in(0).size; }
  std::vector<Slot*> outputs() const override { return {output_, log_jacobian_}; }

  void forward(Index n_draws, Team& team) override {
    team.for_range(output_->rows(n_draws), grain(), [&](Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        bijector_->forward(in(0).at(s) + begin_, output_->at(s), log_jacobian_->at(s));
      }
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      bijector_->add_pullback(in(0).at(s) + begin_, output_->at(s), output_->adjoint_at(s),
                              log_jacobian_->adjoint_at(s), in(0).adjoint_at(s) + begin_);
    });
  }

 private:
  Index grain() const noexcept { return std::max<Index>(1, 4096 / output_->size); }

  std::unique_ptr<Bijector> bijector_;
  Index begin_;
  Slot* log_jacobian_;
};

}  // namespace klqp
