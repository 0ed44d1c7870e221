// TargetTerm: a log density of one variable, as a node.
#pragma once

#include <memory>

#include "core/target.hpp"
#include "model/node.hpp"

namespace klqp {

// Input: z (D). Output: log p.
class TargetTerm final : public Node {
 public:
  TargetTerm(std::shared_ptr<Target> target, bool gradients, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), target_(std::move(target)), gradients_(gradients) {
    if (in(0).size != target_->dim()) throw ConfigError("the target has another dimension");
  }

  bool native() const override { return target_->native(); }
  std::string explain(Index row) override { return target_->explain(row); }

  void forward(Index n_draws, Team& team) override {
    const Index rows = output_->rows(n_draws);
    const Matrix points = target_->points(rows);
    std::copy_n(in(0).value, points.size(), points.data);
    evaluation_ = target_->evaluate(gradients_ ? Order::gradient : Order::value, team);
    std::copy_n(evaluation_.logp, rows, output_->value);
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active || !gradients_) return;
    const Index dim = in(0).size;
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      kernels().axpy(dim, *output_->adjoint_at(s), evaluation_.grad + s * dim, in(0).adjoint_at(s));
    });
  }

 private:
  std::shared_ptr<Target> target_;
  bool gradients_;
  Evaluation evaluation_;
};

}  // namespace klqp
