// Glm: the log density of data given a linear predictor, with all of its derivatives in one pass over the rows.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "model/fused/likelihoods/likelihood.hpp"
#include "model/fused/predictor_pass.hpp"
#include "model/fused/row_partition.hpp"
#include "model/fused/scratch_pool.hpp"
#include "model/node.hpp"

namespace klqp {

// Inputs: whatever the predictor's terms read, the value, the parameters and the weight. Output: one number.
//
// A block of rows is read once: eta of all draws, the likelihood's value and its derivatives by eta, and the products
// of these with the rows, while the block is in cache. A chunk of blocks has sums of its own, and these are added up in
// order. Derivatives are of the output itself; a sweep multiplies them by the draws' cotangents.
class Glm final : public Node {
 public:
  // The likelihood's weight and the node's are the same slot: a single factor is applied here, to the sums.
  Glm(PredictorTerms terms, std::unique_ptr<GlmLikelihood> likelihood, std::vector<Slot*> parameters,
      const Slot* factor, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output),
        pass_(std::move(terms)),
        likelihood_(std::move(likelihood)),
        parameters_(std::move(parameters)),
        factor_(factor),
        by_parameter_(parameters_.size()) {}

  void data_changed() override {
    pass_.data_changed();
    likelihood_->data_changed();
  }

  void expect_backward() override { keeps_ = true; }

  void reserve(Index n_draws) override {
    n_rows_ = output_->rows(n_draws);
    pass_.reserve(n_rows_);
    partial_size_ = n_rows_ * (pass_.n_gradients() + likelihood_->n_sums());
    partition_ = RowPartition(pass_.n(), pass_.width(), partial_size_);
    partial_.resize(static_cast<std::size_t>(partial_size_ * partition_.n_chunks()));
    for (std::size_t j = 0; j < parameters_.size(); ++j) {
      if (parameters_[j]->active) by_parameter_[j].resize(static_cast<std::size_t>(n_rows_ * parameters_[j]->size));
    }
    scratch_.reserve(eta_bytes() + pass_.scratch_bytes(partition_.block()));
  }

  void forward(Index, Team& team) override {
    run(keeps_, team);
    team.for_range(n_rows_, 1, [&](Index s, Index) { output_->value[s] = finish(s, keeps_); });
  }

  void backward(const Sweep& sweep) override {
    if (!keeps_) {
      run(true, sweep.team);
      for (Index s = 0; s < n_rows_; ++s) finish(s, true);
    }
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      const double cot = *output_->adjoint_at(s) * factor();
      if (cot == 0.0) return;
      pass_.pull(s, cot, partial_.data());
      for (std::size_t j = 0; j < parameters_.size(); ++j) {
        const Slot& x = *parameters_[j];
        if (x.active) kernels().axpy(x.size, cot, by_parameter_[j].data() + s * x.size, x.adjoint_at(s));
      }
    });
  }

  Index work(Index n_draws) const override {
    return output_->rows(n_draws) * pass_.n() * pass_.k() * (2 * pass_.width() + 16);
  }

 private:
  Index eta_bytes() const noexcept {
    return partition_.block() * pass_.group() * pass_.k() * static_cast<Index>(sizeof(double));
  }

  // The sums over all rows, in the first chunk's place.
  void run(bool gradients, Team& team) noexcept {
    pass_.begin();
    const Index n_chunks = partition_.n_chunks();
    team.for_chunks(n_chunks, [&](Index chunk) { add_chunk(chunk, gradients); });
    const Index begin = gradients ? 0 : n_rows_ * pass_.n_gradients();
    if (n_chunks == 1) return;
    constexpr Index kGrain = 1024;
    team.for_range(partial_size_ - begin, kGrain, [&](Index first, Index end) {
      double* const to = partial_.data() + begin + first;
      for (Index chunk = 1; chunk < n_chunks; ++chunk) kernels().axpy(end - first, 1.0, to + chunk * partial_size_, to);
    });
  }

  void add_chunk(Index chunk, bool gradients) noexcept {
    const ScratchPool::Part scratch(scratch_);
    double* const eta = reinterpret_cast<double*>(scratch.data());
    double* const partial = partial_.data() + chunk * partial_size_;
    double* const sums = partial + n_rows_ * pass_.n_gradients();
    std::fill(gradients ? partial : sums, partial + partial_size_, 0.0);
    const Index ld = partition_.block();
    partition_.for_blocks(chunk, [&](Index first, Index n) {
      PredictorPass::Loaded loaded;
      pass_.load(first, n, scratch.data() + eta_bytes(), loaded);
      for (Index s = 0; s < n_rows_; s += pass_.group()) {
        const Index g = std::min(pass_.group(), n_rows_ - s);
        pass_.predict(loaded, first, n, s, g, eta, ld);
        for (Index r = 0; r < g; ++r) {
          likelihood_->add(s + r, first, n, eta + r * pass_.k() * ld, ld, gradients,
                           sums + (s + r) * likelihood_->n_sums());
        }
        if (gradients) pass_.add_gradients(loaded, first, n, s, g, eta, ld, partial);
      }
    });
  }

  // The log density of a draw; with `gradients` also its derivatives by the parameters.
  double finish(Index s, bool gradients) noexcept {
    double* grads[kMostParameters] = {};
    for (std::size_t j = 0; j < parameters_.size(); ++j) {
      if (gradients && parameters_[j]->active) grads[j] = by_parameter_[j].data() + s * parameters_[j]->size;
    }
    const double* const sums = partial_.data() + n_rows_ * pass_.n_gradients() + s * likelihood_->n_sums();
    const double value = likelihood_->finish(s, sums, grads);
    return factor() == 0.0 ? 0.0 : factor() * value;
  }

  double factor() const noexcept { return factor_ == nullptr ? 1.0 : *factor_->value; }

  static constexpr std::size_t kMostParameters = 4;

  PredictorPass pass_;
  std::unique_ptr<GlmLikelihood> likelihood_;
  std::vector<Slot*> parameters_;
  const Slot* factor_;  // of all rows
  bool keeps_ = false;  // derivatives of the forward pass
  Index n_rows_ = 0;
  RowPartition partition_;
  ScratchPool scratch_;
  Index partial_size_ = 0;
  std::vector<double> partial_;                    // (chunks, R * (gradients + sums))
  std::vector<std::vector<double>> by_parameter_;  // (R, size)
};

}  // namespace klqp
