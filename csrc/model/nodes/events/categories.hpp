// Categorical, one-hot categorical and multinomial laws, given logits (K) or weights of the categories (K).
#pragma once

#include <algorithm>

#include "model/bijectors/matrix.hpp"
#include "model/nodes/events/law.hpp"

namespace klqp {

// log p (K) of the categories, and the way back: weights need not sum to one, and may be 0.
class Categories {
 public:
  Categories(Index size, bool probs) : size_(size), probs_(probs) {}

  // theta (K) -> prepared: log p (K), p (K), and the sum of the weights. NaN where theta is not legal.
  void prepare(const double* theta, double* prepared) const noexcept {
    double *const log_p = prepared, *const p = prepared + size_, &total = prepared[2 * size_];
    if (probs_) {
      total = 0.0;
      for (Index i = 0; i < size_; ++i) total += theta[i] >= 0.0 ? theta[i] : kNaN;
      for (Index i = 0; i < size_; ++i) p[i] = theta[i] / total;
      kernels().log(size_, p, log_p);
      if (!(total > 0.0) || std::isinf(total)) std::fill_n(log_p, size_, kNaN);
      return;
    }
    double most = kMinusInfinity;
    for (Index i = 0; i < size_; ++i) most = std::max(most, theta[i]);
    for (Index i = 0; i < size_; ++i) log_p[i] = theta[i] - most;
    kernels().exp(size_, log_p, p);
    total = kernels().sum(size_, p);
    const double log_total = std::log(total);
    for (Index i = 0; i < size_; ++i) log_p[i] -= log_total;
    kernels().scale(size_, 1.0 / total, p, p);
  }

  // theta (n, K) -> prepared (n, n_prepared); few categories share the calls of kernels.
  void prepare_run(Index n, const double* theta, double* prepared) const noexcept {
    const Index most_events = kTile / size_;
    if (probs_ || most_events < 2) {
      for (Index i = 0; i < n; ++i) prepare(theta + i * size_, prepared + i * n_prepared());
      return;
    }
    double tile[kTile], totals[kTile], maxima[kTile];
    while (n > 0) {
      const Index m = std::min(n, most_events);
      for (Index i = 0; i < m; ++i) {
        const double* const row = theta + i * size_;
        double most = kMinusInfinity;
        for (Index k = 0; k < size_; ++k) most = std::max(most, row[k]);
        for (Index k = 0; k < size_; ++k) tile[i * size_ + k] = row[k] - most;
        maxima[i] = most;
      }
      kernels().exp(m * size_, tile, tile);
      for (Index i = 0; i < m; ++i) {
        double total = 0.0;
        for (Index k = 0; k < size_; ++k) total += tile[i * size_ + k];
        totals[i] = total;
      }
      double logs[kTile];
      kernels().log(m, totals, logs);
      for (Index i = 0; i < m; ++i) {
        double* const out = prepared + i * n_prepared();
        const double scale = 1.0 / totals[i];
        for (Index k = 0; k < size_; ++k) {
          out[k] = theta[i * size_ + k] - maxima[i] - logs[i];
          out[size_ + k] = tile[i * size_ + k] * scale;
        }
        out[2 * size_] = totals[i];
      }
      n -= m;
      theta += m * size_;
      prepared += m * n_prepared();
    }
  }

  // grad (K) += the share of log p_k apart from the normaliser, for a cotangent; 0 asks nothing of a weight of 0
  void add_one(const double* theta, Index k, double cot, double* grad) const noexcept {
    if (cot != 0.0) grad[k] += probs_ ? cot / theta[k] : cot;
  }
  // grad (K) += the share of the normaliser, for cotangents of log p that sum to cot
  void add_normaliser(const double* prepared, double cot, double* grad) const noexcept {
    if (probs_) {
      const double share = cot / prepared[2 * size_];
      for (Index i = 0; i < size_; ++i) grad[i] -= share;
    } else {
      row_axpy(size_, -cot, prepared + size_, grad);
    }
  }

  Index n_prepared() const noexcept { return 2 * size_ + 1; }
  Index size() const noexcept { return size_; }

 private:
  static constexpr Index kTile = 256;
  Index size_;
  bool probs_;
};

// value k (1), theta (K): log p_k
class CategoricalLaw final : public Law {
 public:
  CategoricalLaw(Index size, bool probs) : categories_(size, probs) {
    check_at_least("the number of categories", size, 1);
    widths = {1, size};
    n_prepared = categories_.n_prepared();
    prepared_in_runs = 1;
    no_gradient = 1u;
    work = 10 * size;
  }

  void prepare(const double* const* args, bool, double* prepared, double*) const noexcept override {
    categories_.prepare(args[1], prepared);
  }
  void prepare_run(Index n, const double* theta, double* prepared) const noexcept override {
    categories_.prepare_run(n, theta, prepared);
  }
  double log_prob(const double* const* args, const double* prepared, double*, double*) const noexcept override {
    const double k = *args[0];
    if (std::isnan(k) || std::isnan(prepared[0])) return kNaN;
    const bool inside = k >= 0.0 && k < static_cast<double>(categories_.size()) && k == std::floor(k);
    return inside ? prepared[static_cast<Index>(k)] : kMinusInfinity;
  }
  void add_gradient(const double* const* args, const double* prepared, const double*, double cot, double* const* grads,
                    double*) const noexcept override {
    if (grads[1] == nullptr) return;
    categories_.add_one(args[1], static_cast<Index>(*args[0]), cot, grads[1]);
    categories_.add_normaliser(prepared, cot, grads[1]);
  }

 private:
  Categories categories_;
};

// value x (K), [total count n (1)], theta (K): sum x log p, and for counts log n! - sum log x!
class CountsLaw final : public Law {
 public:
  CountsLaw(Index size, bool probs, bool one_hot) : categories_(size, probs), one_hot_(one_hot) {
    check_at_least("the number of categories", size, 1);
    widths = one_hot ? std::vector<Index>{size, size} : std::vector<Index>{size, 1, size};
    n_prepared = categories_.n_prepared();
    prepared_in_runs = last();
    no_gradient = one_hot ? 1u : 3u;
    base_args = one_hot ? 0u : 3u;
    work = (one_hot ? 10 : 30) * size;
  }

  void prepare(const double* const* args, bool, double* prepared, double*) const noexcept override {
    categories_.prepare(args[last()], prepared);
  }
  void prepare_run(Index n, const double* theta, double* prepared) const noexcept override {
    categories_.prepare_run(n, theta, prepared);
  }
  double log_prob(const double* const* args, const double* prepared, double*, double*) const noexcept override {
    const double* const x = args[0];
    const double n = total_count(args);
    if (std::isnan(prepared[0]) || !(n >= 0.0) || n != std::floor(n) || std::isinf(n)) return kNaN;
    double total = 0.0, sum = 0.0;
    bool inside = true;
    for (Index i = 0; i < categories_.size(); ++i) {
      if (std::isnan(x[i])) return kNaN;
      inside = inside && x[i] >= 0.0 && x[i] == std::floor(x[i]);
      total += x[i];
      if (x[i] != 0.0) sum += x[i] * prepared[i];
    }
    return inside && total == n ? sum : kMinusInfinity;
  }
  void add_gradient(const double* const* args, const double* prepared, const double*, double cot, double* const* grads,
                    double*) const noexcept override {
    double* const grad = grads[last()];
    if (grad == nullptr) return;
    for (Index i = 0; i < categories_.size(); ++i) {
      categories_.add_one(args[last()], i, cot * args[0][i], grad);
    }
    categories_.add_normaliser(prepared, cot * total_count(args), grad);
  }
  double log_base(const double* const* args) const noexcept override {
    double total = 0.0, sum = 0.0;
    for (Index i = 0; i < categories_.size(); ++i) {
      double y = args[0][i] + 1.0;
      if (!(y >= 1.0)) return 0.0;
      total += args[0][i];
      kernels().lgamma(1, &y, &y);
      sum -= y;
    }
    double y = total + 1.0;
    kernels().lgamma(1, &y, &y);
    return std::isfinite(sum + y) ? sum + y : 0.0;
  }

 private:
  std::size_t last() const noexcept { return one_hot_ ? 1 : 2; }
  double total_count(const double* const* args) const noexcept { return one_hot_ ? 1.0 : *args[1]; }

  Categories categories_;
  bool one_hot_;
};

}  // namespace klqp
