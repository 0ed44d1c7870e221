// Chain: the forward and backward recursions of one hidden Markov chain, scaled or in logarithms.
#pragma once

#include <algorithm>
#include <cmath>

#include "model/nodes/events/categories.hpp"

namespace klqp {

// The probabilities of a chain of K states: rows of [log p (K), p (K), total], as Categories prepares them, `stride`
// apart; of the first state one row, of the next state one for each state one comes from.
struct ChainWeights {
  // What is between 0 and this might underflow within two steps.
  static constexpr double kFaint = 1e-100;
  enum class Reach { everywhere, gaps, faint };  // no transition is less likely than kFaint; some are 0; some are faint

  const double *first, *next;
  Index stride;
  Reach reach;

  static Reach reach_of_first(Index n, const double* p) noexcept {
    const bool faint = std::any_of(p, p + n, [](double x) { return x > 0.0 && x < kFaint; });
    return faint ? Reach::faint : Reach::everywhere;
  }
  static Reach reach_of_next(Index n, const double* p) noexcept {
    const bool gaps = std::any_of(p, p + n, [](double x) { return x == 0.0; });
    return std::max(gaps ? Reach::gaps : Reach::everywhere, reach_of_first(n, p));
  }
};

// What forward() leaves for backward(): alpha (steps, K), the probabilities of the states given what was observed so
// far, and ratio (steps, K), the density of a step's observation given the state over that given the past; both with
// logarithms of p(state, observed so far) in alpha if in_logs.
struct ChainMemory {
  double *alpha, *ratio;
  bool* in_logs;
};

// The recursions scaled to probabilities (Rabiner 1989, section V.A) where nothing that could matter later underflows,
// in logarithms elsewhere: a state that a chain cannot come back to must be kept however unlikely it is at present.
class Chain {
 public:
  explicit Chain(Index n_states) : n_(n_states) {}

  Index n_scratch(Index steps) const noexcept { return std::max((steps + 1) * n_, n_ * n_ + 2 * n_) + steps; }

  // The log density of a sequence, from the log densities b (steps, K) of its observations; scratch (n_scratch).
  double forward(Index steps, const ChainWeights& weights, const double* b, const ChainMemory& memory,
                 double* scratch) const noexcept {
    double value = 0.0;
    *memory.in_logs =
        weights.reach == ChainWeights::Reach::faint || !scaled_forward(steps, weights, b, memory, scratch, value);
    return *memory.in_logs ? log_forward(steps, weights, b, memory.alpha, scratch) : value;
  }

  // After forward() gave `value`, which is finite: calls emit(t, p) with the probabilities p (K) of the states given
  // the whole sequence, last step first, and fills counts (K + K*K) with those of the first state and the expected
  // numbers of transitions.
  template <class Emit>
  void backward(Index steps, const ChainWeights& weights, const double* b, const ChainMemory& memory, double value,
                double* counts, double* scratch, const Emit& emit) const noexcept {
    std::fill_n(counts, n_ + n_ * n_, 0.0);
    if (*memory.in_logs) {
      log_backward(steps, weights, b, memory.alpha, value, counts, scratch, emit);
    } else {
      scaled_backward(steps, weights, memory, counts, scratch, emit);
    }
  }

 private:
  // Below it a state counts as lost.
  static constexpr double kLost = 1e-200;

  const double* log_next(const ChainWeights& weights, Index from) const noexcept {
    return weights.next + from * weights.stride;
  }
  const double* next(const ChainWeights& weights, Index from) const noexcept { return log_next(weights, from) + n_; }
  const double* first(const ChainWeights& weights) const noexcept { return weights.first + n_; }

  // Fills e (steps, K) with exp(b - m) for the greatest m of each step; returns the sum of the m. At the first step
  // states that the chain cannot start in do not count.
  double exponentials(Index steps, const double* first, const double* b, double* e) const noexcept {
    double shift = 0.0;
    for (Index t = 0; t < steps; ++t) {
      const double* const row = b + t * n_;
      double* const out = e + t * n_;
      double most = kMinusInfinity;
      for (Index k = 0; k < n_; ++k) {
        out[k] = t == 0 && first[k] == 0.0 ? kMinusInfinity : row[k];
        most = std::max(most, out[k]);
      }
      if (!std::isfinite(most)) most = 0.0;
      for (Index k = 0; k < n_; ++k) out[k] -= most;
      shift += most;
    }
    kernels().exp(steps * n_, e, e);
    return shift;
  }

  // Few states are not worth the call of a kernel.
  bool small() const noexcept { return n_ < 24; }

  // out (K) = x (K) A for the transition probabilities A (K, K)
  void predict(const ChainWeights& weights, const double* x, double* out) const noexcept {
    std::fill_n(out, n_, 0.0);
    for (Index i = 0; i < n_; ++i) {
      const double* const row = next(weights, i);
      if (!small()) {
        kernels().axpy(n_, x[i], row, out);
        continue;
      }
      for (Index k = 0; k < n_; ++k) out[k] += x[i] * row[k];
    }
  }
  // out (K) = A x
  void look_back(const ChainWeights& weights, const double* x, double* out) const noexcept {
    for (Index i = 0; i < n_; ++i) {
      const double* const row = next(weights, i);
      double sum = 0.0;
      if (small()) {
        for (Index k = 0; k < n_; ++k) sum += row[k] * x[k];
      }
      out[i] = small() ? sum : kernels().dot(n_, row, x);
    }
  }

  // Sets `value`, or returns false where a state was lost that may matter.
  bool scaled_forward(Index steps, const ChainWeights& weights, const double* b, const ChainMemory& memory,
                      double* totals, double& value) const noexcept {
    const bool careful = weights.reach != ChainWeights::Reach::everywhere;
    const double shift = exponentials(steps, first(weights), b, memory.ratio);
    for (Index t = 0; t < steps; ++t) {
      double* const a = memory.alpha + t * n_;
      double* const e = memory.ratio + t * n_;
      if (t == 0) {
        std::copy_n(first(weights), n_, a);
      } else {
        predict(weights, a - n_, a);
      }
      double total = 0.0;
      bool lost = false;
      for (Index k = 0; k < n_; ++k) {
        const double p = a[k] * e[k];
        lost |= a[k] > 0.0 && p < kLost && b[t * n_ + k] != kMinusInfinity;
        if (a[k] == 0.0) e[k] = 0.0;  // whatever would be divided by little: it is multiplied by 0
        a[k] = p;
        total += p;
      }
      if (careful && lost) return false;
      totals[t] = total;
      if (!(total > 0.0)) {
        value = total == 0.0 ? kMinusInfinity : kNaN;
        return true;
      }
      const double factor = 1.0 / total;
      for (Index k = 0; k < n_; ++k) a[k] *= factor;
      for (Index k = 0; k < n_; ++k) e[k] *= factor;
    }
    kernels().log(steps, totals, totals);
    value = shift + kernels().sum(steps, totals);
    return true;
  }

  template <class Emit>
  void scaled_backward(Index steps, const ChainWeights& weights, const ChainMemory& memory, double* counts,
                       double* scratch, const Emit& emit) const noexcept {
    double *const beta = scratch, *const shares = scratch + n_;  // shares (steps, K) = ratio * beta
    std::fill_n(beta, n_, 1.0);
    for (Index t = steps - 1; t >= 0; --t) {
      const double *const a = memory.alpha + t * n_, *const ratio = memory.ratio + t * n_;
      double* const v = shares + t * n_;
      for (Index k = 0; k < n_; ++k) v[k] = ratio[k] * beta[k];
      for (Index k = 0; k < n_; ++k) beta[k] *= a[k];
      emit(t, beta);
      if (t > 0) look_back(weights, v, beta);
    }
    std::copy_n(beta, n_, counts);
    count_transitions(steps, weights, memory.alpha, shares, counts + n_);
  }

  // counts (K, K) += A * sum over t of alpha_t-1 (K) shares_t (K)^T
  void count_transitions(Index steps, const ChainWeights& weights, const double* alpha, const double* shares,
                         double* counts) const noexcept {
    if (small()) {
      for (Index t = 1; t < steps; ++t) {
        const double *const a = alpha + (t - 1) * n_, *const v = shares + t * n_;
        for (Index i = 0; i < n_; ++i) {
          for (Index k = 0; k < n_; ++k) counts[i * n_ + k] += a[i] * v[k];
        }
      }
    } else if (steps > 1) {
      kernels().matmul_tn(n_, n_, steps - 1, alpha, n_, shares + n_, n_, counts, n_);
    }
    for (Index i = 0; i < n_; ++i) {
      for (Index k = 0; k < n_; ++k) counts[i * n_ + k] *= next(weights, i)[k];
    }
  }

  // log sum exp of x (n), which it overwrites.
  static double log_sum_exp(Index n, double* x) noexcept {
    double most = *std::max_element(x, x + n);
    if (!std::isfinite(most)) most = 0.0;
    for (Index k = 0; k < n; ++k) x[k] -= most;
    kernels().exp(n, x, x);
    return most + std::log(kernels().sum(n, x));
  }

  double log_forward(Index steps, const ChainWeights& weights, const double* b, double* log_alpha,
                     double* line) const noexcept {
    for (Index t = 0; t < steps; ++t) {
      double* const a = log_alpha + t * n_;
      for (Index k = 0; k < n_; ++k) {
        if (t == 0) {
          a[k] = weights.first[k];
        } else {
          for (Index i = 0; i < n_; ++i) line[i] = a[i - n_] + log_next(weights, i)[k];
          a[k] = log_sum_exp(n_, line);
        }
        a[k] += b[t * n_ + k];
      }
    }
    std::copy_n(log_alpha + (steps - 1) * n_, n_, line);
    return log_sum_exp(n_, line);
  }

  template <class Emit>
  void log_backward(Index steps, const ChainWeights& weights, const double* b, const double* log_alpha, double value,
                    double* counts, double* scratch, const Emit& emit) const noexcept {
    double *const log_beta = scratch, *const line = log_beta + n_, *const joint = line + n_;
    std::fill_n(log_beta, n_, 0.0);
    for (Index t = steps - 1; t >= 0; --t) {
      const double* const a = log_alpha + t * n_;
      for (Index k = 0; k < n_; ++k) line[k] = a[k] + log_beta[k] - value;
      kernels().exp(n_, line, line);
      emit(t, line);
      if (t == 0) break;
      for (Index k = 0; k < n_; ++k) log_beta[k] += b[t * n_ + k];
      for (Index i = 0; i < n_; ++i) {
        for (Index k = 0; k < n_; ++k) joint[i * n_ + k] = a[i - n_] + log_next(weights, i)[k] + log_beta[k] - value;
      }
      kernels().exp(n_ * n_, joint, joint);
      kernels().axpy(n_ * n_, 1.0, joint, counts + n_);
      for (Index i = 0; i < n_; ++i) {
        for (Index k = 0; k < n_; ++k) line[k] = log_next(weights, i)[k] + log_beta[k];
        joint[i] = log_sum_exp(n_, line);
      }
      std::copy_n(joint, n_, log_beta);
    }
    std::copy_n(line, n_, counts);
  }

  Index n_;
};

}  // namespace klqp
