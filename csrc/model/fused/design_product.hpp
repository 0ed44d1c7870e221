// DesignProduct: a linear predictor by itself, (n, k) numbers.
#pragma once

#include <algorithm>
#include <vector>

#include "model/fused/predictor_pass.hpp"
#include "model/fused/row_partition.hpp"
#include "model/fused/scratch_pool.hpp"
#include "model/node.hpp"

namespace klqp {

// Inputs: whatever the predictor's terms read.
class DesignProduct final : public Node {
 public:
  DesignProduct(PredictorTerms terms, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), pass_(std::move(terms)) {}

  void data_changed() override { pass_.data_changed(); }

  void reserve(Index n_draws) override {
    n_rows_ = output_->rows(n_draws);
    pass_.reserve(n_rows_);
    partial_size_ = n_rows_ * pass_.n_gradients();
    partition_ = RowPartition(pass_.n(), pass_.width(), partial_size_);
    partial_.resize(static_cast<std::size_t>(partial_size_ * partition_.n_chunks()));
    scratch_.reserve(eta_bytes() + pass_.scratch_bytes(partition_.block()));
  }

  void forward(Index, Team& team) override {
    pass_.begin();
    for_groups(team, [&](const Group& at, Index) {
      pass_.predict(at.loaded, at.first, at.n, at.s, at.g, at.eta, partition_.block());
      move(at, [](double& element, double& eta) { element = eta; });
    });
  }

  void backward(const Sweep& sweep) override {
    const std::vector<DrawRange>& draws = sweep.draws;
    std::fill(partial_.begin(), partial_.end(), 0.0);
    for_groups(sweep.team, [&](const Group& at, Index chunk) {
      cotangents(at, draws);
      pass_.add_gradients(at.loaded, at.first, at.n, at.s, at.g, at.eta, partition_.block(),
                          partial_.data() + chunk * partial_size_);
    });
    for (Index chunk = 1; chunk < partition_.n_chunks(); ++chunk) {
      kernels().axpy(partial_size_, 1.0, partial_.data() + chunk * partial_size_, partial_.data());
    }
    sweep.for_each_row(output_->per_draw, [&](Index s) { pass_.pull(s, 1.0, partial_.data()); });
  }

  Index work(Index n_draws) const override {
    return output_->rows(n_draws) * pass_.n() * pass_.k() * (2 * pass_.width() + 2);
  }

 private:
  Index eta_bytes() const noexcept {
    return partition_.block() * pass_.group() * pass_.k() * static_cast<Index>(sizeof(double));
  }

  // A block of rows for draws s, ..., s + g - 1, and room for eta.
  struct Group {
    PredictorPass::Loaded loaded;
    Index first, n, s, g;
    double* eta;
  };

  template <class Body>
  void for_groups(Team& team, const Body& body) noexcept {
    team.for_chunks(partition_.n_chunks(), [&](Index chunk) {
      const ScratchPool::Part scratch(scratch_);
      Group at;
      at.eta = reinterpret_cast<double*>(scratch.data());
      partition_.for_blocks(chunk, [&](Index first, Index n) {
        pass_.load(first, n, scratch.data() + eta_bytes(), at.loaded);
        at.first = first;
        at.n = n;
        for (at.s = 0; at.s < n_rows_; at.s += pass_.group()) {
          at.g = std::min(pass_.group(), n_rows_ - at.s);
          body(at, chunk);
        }
      });
    });
  }

  // Calls body(output, eta) on the elements of a group.
  template <class Body>
  void move(const Group& at, const Body& body) const noexcept {
    const Index k = pass_.k(), ld = partition_.block();
    for (Index r = 0; r < at.g; ++r) {
      double* const out = output_->at(at.s + r) + at.first * k;
      for (Index c = 0; c < k; ++c) {
        double* const eta = at.eta + (r * k + c) * ld;
        for (Index i = 0; i < at.n; ++i) body(out[i * k + c], eta[i]);
      }
    }
  }

  // eta = the output's cotangents, 0 for draws that do not take part.
  void cotangents(const Group& at, const std::vector<DrawRange>& draws) const noexcept {
    const Index k = pass_.k(), ld = partition_.block();
    for (Index r = 0; r < at.g; ++r) {
      const Index s = at.s + r;
      const bool there = !output_->per_draw || std::any_of(draws.begin(), draws.end(), [&](const DrawRange& range) {
        return range.begin <= s && s < range.end;
      });
      const double* const cot = output_->adjoint_at(s) + at.first * k;
      for (Index c = 0; c < k; ++c) {
        double* const eta = at.eta + (r * k + c) * ld;
        for (Index i = 0; i < at.n; ++i) eta[i] = there ? cot[i * k + c] : 0.0;
      }
    }
  }

  PredictorPass pass_;
  Index n_rows_ = 0;
  RowPartition partition_;
  ScratchPool scratch_;
  Index partial_size_ = 0;
  std::vector<double> partial_;  // (chunks, R * gradients)
};

}  // namespace klqp
