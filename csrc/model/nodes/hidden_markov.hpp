// HiddenMarkov: log densities of sequences with the states of a hidden Markov chain summed out.
#pragma once

#include <memory>
#include <vector>

#include "model/node.hpp"
#include "model/nodes/chain.hpp"

namespace klqp {

// out (n) = log sum over z of p(z_1) prod_t p(z_t | z_t-1) prod_t exp b_t(z_t), for log densities b (n, T, K) of
// observations given the state. Inputs: logits or weights of the first state (K), those of the next state (K, K) with a
// row for each state one comes from, each for all sequences or for each, and b. They need not be normalised: the
// probabilities are those of Categories. Of steps from `lengths` (n) on nothing is read. The gradients are posterior
// probabilities of the states and of transitions; 0 for weights of 0. Where the chain belongs to q the cotangents of
// the weights are subject to the sweep.
class HiddenMarkov final : public Node {
 public:
  struct Options {
    bool first_probs, next_probs, log_q;
  };

  HiddenMarkov(Index n_states, std::vector<Index> lengths, Options options, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output),
        n_(static_cast<Index>(lengths.size())),
        states_(n_states),
        lengths_(std::move(lengths)),
        options_(options),
        chain_(n_states) {
    require_inputs(3);
    check_sizes();
  }

  void reserve(Index n_draws) override {
    const Index rows = output_->rows(n_draws), chains = rows * n_;
    for (const std::size_t k : {kFirst, kNext}) {
      const Index sets = in(k).rows(n_draws) * n_sets(k);
      prepared_[k].assign(static_cast<std::size_t>(in(k).rows(n_draws) * in(k).size / states_ * stride()), 0.0);
      reach_[k].assign(static_cast<std::size_t>(sets), ChainWeights::Reach::everywhere);
    }
    alpha_.assign(static_cast<std::size_t>(chains * steps_ * states_), 0.0);
    ratio_.assign(alpha_.size(), 0.0);
    in_logs_ = std::make_unique<bool[]>(static_cast<std::size_t>(chains));
    counts_.assign(static_cast<std::size_t>(chains * n_counts()), 0.0);
    totals_.assign(static_cast<std::size_t>(n_counts()), 0.0);
    scratch_.assign(static_cast<std::size_t>((chains + grain() - 1) / grain() * chain_.n_scratch(steps_)), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    for (const std::size_t k : {kFirst, kNext}) prepare(k, n_draws, team);
    team.for_range(output_->rows(n_draws) * n_, grain(), [&](Index begin, Index end) {
      for (Index c = begin; c < end; ++c) {
        const Index s = c / n_, i = c % n_;
        output_->at(s)[i] =
            chain_.forward(length(i), weights(s, i), emission(s, i), memory(s, i), scratch(begin / grain()));
      }
    });
  }

  void backward(const Sweep& sweep) override {
    sweep.for_rows(output_->per_draw, [&](Index first, Index n_rows) {
      if (in(kEmission).per_draw == output_->per_draw || !in(kEmission).active) {
        smooth(sweep.team, first, n_rows);
        return;
      }
      for (Index s = first; s < first + n_rows; ++s) smooth(sweep.team, s, 1);  // draws add to one array
    });
    if (options_.log_q && !sweep.log_q_to_params) return;
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      pull_weights(kFirst, s, options_.first_probs, 0, states_);
      pull_weights(kNext, s, options_.next_probs, states_, states_ * states_);
    });
  }

  Index work(Index n_draws) const override {
    return output_->rows(n_draws) * n_ * steps_ * states_ * (24 + 8 * states_);
  }

 private:
  static constexpr std::size_t kFirst = 0, kNext = 1, kEmission = 2;

  void check_sizes() {
    const Index rows = states_ < 1 || n_ < 1 ? 0 : in(kEmission).size / (n_ * states_);
    steps_ = rows;
    bool fits = rows >= 1 && in(kEmission).size == n_ * rows * states_ && output_->size == n_;
    for (const std::size_t k : {kFirst, kNext}) {
      const Index one = k == kFirst ? states_ : states_ * states_;
      fits = fits && (in(k).size == one || in(k).size == n_ * one);
    }
    for (const Index length : lengths_) fits = fits && length >= 1 && length <= steps_;
    if (!fits) throw ConfigError("the sizes of a hidden Markov chain do not fit together");
  }

  Index stride() const noexcept { return 2 * states_ + 1; }
  Index n_counts() const noexcept { return states_ * (1 + states_); }
  Index rows_of(std::size_t k) const noexcept { return k == kFirst ? 1 : states_; }  // categoricals in one set
  Index n_sets(std::size_t k) const noexcept { return in(k).size / (rows_of(k) * states_); }
  Index length(Index i) const noexcept { return lengths_[static_cast<std::size_t>(i)]; }
  Index grain() const noexcept { return std::max<Index>(1, 8192 / (steps_ * states_ * (states_ + 8))); }
  // The set of weights that sequence i of draw s uses.
  Index set_of(std::size_t k, Index s, Index i) const noexcept {
    return (in(k).per_draw ? s * n_sets(k) : 0) + (n_sets(k) > 1 ? i : 0);
  }
  const double* prepared(std::size_t k, Index s, Index i) const noexcept {
    return prepared_[k].data() + set_of(k, s, i) * rows_of(k) * stride();
  }
  ChainWeights weights(Index s, Index i) const noexcept {
    const auto reach = [&](std::size_t k) { return reach_[k][static_cast<std::size_t>(set_of(k, s, i))]; };
    return {prepared(kFirst, s, i), prepared(kNext, s, i), stride(), std::max(reach(kFirst), reach(kNext))};
  }
  const double* emission(Index s, Index i) const noexcept { return in(kEmission).at(s) + i * steps_ * states_; }
  ChainMemory memory(Index s, Index i) noexcept {
    const Index c = s * n_ + i, at = c * steps_ * states_;
    return {alpha_.data() + at, ratio_.data() + at, in_logs_.get() + c};
  }
  double* counts(Index s, Index i) noexcept { return counts_.data() + (s * n_ + i) * n_counts(); }
  double* scratch(Index chunk) noexcept { return scratch_.data() + chunk * chain_.n_scratch(steps_); }

  void prepare(std::size_t k, Index n_draws, Team& team) noexcept {
    const Categories categories(states_, k == kFirst ? options_.first_probs : options_.next_probs);
    const Index rows = rows_of(k);
    team.for_range(in(k).rows(n_draws) * n_sets(k), std::max<Index>(1, 256 / rows), [&](Index begin, Index end) {
      categories.prepare_run((end - begin) * rows, in(k).value + begin * rows * states_,
                             prepared_[k].data() + begin * rows * stride());
      for (Index set = begin; set < end; ++set) {
        auto reach = ChainWeights::Reach::everywhere;
        for (Index r = set * rows; r < (set + 1) * rows; ++r) {
          const double* const p = prepared_[k].data() + r * stride() + states_;
          reach = std::max(
              reach, k == kFirst ? ChainWeights::reach_of_first(states_, p) : ChainWeights::reach_of_next(states_, p));
        }
        reach_[k][static_cast<std::size_t>(set)] = reach;
      }
    });
  }

  // The cotangents of the emissions, and the counts that those of the weights are made of, for some rows.
  void smooth(Team& team, Index first, Index n_rows) noexcept {
    team.for_range(n_rows * n_, grain(), [&](Index begin, Index end) {
      for (Index c = begin; c < end; ++c) smooth_one(first + c / n_, c % n_, scratch(begin / grain()));
    });
  }
  void smooth_one(Index s, Index i, double* work) noexcept {
    const double value = output_->at(s)[i], cot = output_->adjoint_at(s)[i];
    if (!std::isfinite(value)) {
      std::fill_n(counts(s, i), n_counts(), 0.0);
      return;
    }
    double* const to = in(kEmission).active ? in(kEmission).adjoint_at(s) + i * steps_ * states_ : nullptr;
    chain_.backward(length(i), weights(s, i), emission(s, i), memory(s, i), value, counts(s, i), work,
                    [&](Index t, const double* p) {
                      if (to != nullptr) row_axpy(states_, cot, p, to + t * states_);
                    });
  }

  // Adds what draw s says about an array of weights: the counts from `begin` on, of every sequence.
  void pull_weights(std::size_t k, Index s, bool probs, Index begin, Index size) noexcept {
    if (!in(k).active) return;
    const Categories categories(states_, probs);
    double* const total = totals_.data();
    std::fill_n(total, size, 0.0);
    for (Index i = 0; i < n_; ++i) {
      if (const double cot = output_->adjoint_at(s)[i]; cot != 0.0) row_axpy(size, cot, counts(s, i) + begin, total);
      if (n_sets(k) == 1 && i + 1 < n_) continue;
      const Index at = n_sets(k) > 1 ? i * size : 0;
      for (Index r = 0; r < rows_of(k); ++r) {
        const double *const theta = in(k).at(s) + at + r * states_, *const row = total + r * states_;
        double* const grad = in(k).adjoint_at(s) + at + r * states_;
        for (Index j = 0; j < states_; ++j) categories.add_one(theta, j, row[j], grad);
        categories.add_normaliser(prepared(k, s, i) + r * stride(), kernels().sum(states_, row), grad);
      }
      std::fill_n(total, size, 0.0);
    }
  }

  Index n_, states_, steps_ = 0;
  std::vector<Index> lengths_;  // (n)
  Options options_;
  Chain chain_;
  std::vector<double> prepared_[2];            // of the weights, see Categories
  std::vector<ChainWeights::Reach> reach_[2];  // of each set of weights
  std::vector<double> alpha_, ratio_;          // (rows, n, T, K), see ChainMemory
  std::unique_ptr<bool[]> in_logs_;            // (rows, n)
  std::vector<double> counts_;                 // (rows, n, K + K K)
  std::vector<double> totals_;                 // (K + K K)
  std::vector<double> scratch_;                // (chunks, n_scratch)
};

}  // namespace klqp
