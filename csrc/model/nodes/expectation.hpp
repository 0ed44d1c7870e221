// Expectation: sums over enumerated states, weighted with their probabilities.
#pragma once

#include <cmath>

#include "model/node.hpp"

namespace klqp {

// out (n) = sum_k exp(l_k) x_k, from x_1 .. x_K (n or one number each) and l_1 .. l_K (likewise). A state of
// probability 0 counts for nothing, whatever its x.
class Expectation final : public Node {
 public:
  Expectation(std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), n_states_(inputs_.size() / 2) {
    if (n_states_ == 0 || inputs_.size() % 2 != 0) throw ConfigError("an expectation takes values and log weights");
    for (const Slot* x : inputs_) {
      if (x->size != 1 && x->size != output->size) throw ConfigError("an input has another size than the expectation");
    }
  }

  void reserve(Index n_draws) override {
    weights_.assign(n_states_ * static_cast<std::size_t>(output_->rows(n_draws) * output_->size), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    const Index n = output_->size;
    for_pieces(team, 0, output_->rows(n_draws), n, kGrain, [&](Index s, Index begin, Index end) {
      double* const out = output_->at(s);
      std::fill(out + begin, out + end, 0.0);
      for (std::size_t k = 0; k < n_states_; ++k) {
        double* const w = weights(k, s);
        for (Index i = begin; i < end; ++i) w[i] = element(n_states_ + k, s, i);
        kernels().exp(end - begin, w + begin, w + begin);
        for (Index i = begin; i < end; ++i) {
          if (w[i] != 0.0) out[i] += w[i] * element(k, s, i);
        }
      }
    });
  }

  void backward(const Sweep& sweep) override {
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      for (std::size_t k = 0; k < n_states_; ++k) {
        if (in(k).active) add(k, s, [&](Index, double weighted) { return weighted; });
        if (in(n_states_ + k).active) {
          add(n_states_ + k, s, [&](Index i, double weighted) { return weighted * element(k, s, i); });
        }
      }
    });
  }

  Index work(Index n_draws) const override {
    return static_cast<Index>(inputs_.size()) * 8 * output_->rows(n_draws) * output_->size;
  }

 private:
  static constexpr Index kGrain = 4096;

  double element(std::size_t input, Index s, Index i) const noexcept {
    return in(input).at(s)[in(input).size == 1 ? 0 : i];
  }
  double* weights(std::size_t k, Index s) noexcept {
    return weights_.data() + (static_cast<Index>(k) * n_rows() + s) * output_->size;
  }
  Index n_rows() const noexcept {
    return static_cast<Index>(weights_.size()) / (static_cast<Index>(n_states_) * output_->size);
  }

  // Adds factor(i, w_i cot_i) to an input's adjoint where the weight of its state is not 0.
  template <class Factor>
  void add(std::size_t input, Index s, const Factor& factor) noexcept {
    const double *const cot = output_->adjoint_at(s), *const w = weights(input % n_states_, s);
    double* const to = in(input).adjoint_at(s);
    const Index step = in(input).size == 1 ? 0 : 1;
    for (Index i = 0; i < output_->size; ++i) {
      if (w[i] != 0.0) to[i * step] += factor(i, w[i] * cot[i]);
    }
  }

  std::size_t n_states_;
  std::vector<double> weights_;  // (K, rows, n)
};

}  // namespace klqp
