// Steps that densities of events are composed of: gates for the cotangents of log q, sums over events, mixtures,
// inverse maps.
#pragma once

#include <cmath>

#include "model/node.hpp"
#include "model/nodes/events/categories.hpp"

namespace klqp {

// x itself, on its way into log q as a value or as a parameter: lets cotangents back where the sweep wants them.
class LogQGate final : public Node {
 public:
  LogQGate(bool value, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), value_(value) {
    if (in(0).size != output->size) throw ConfigError("a gate does not change the size");
  }

  void forward(Index n_draws, Team&) override {
    std::copy_n(in(0).value, output_->rows(n_draws) * output_->size, output_->value);
  }
  void backward(const Sweep& sweep) override {
    if (!in(0).active || !(value_ ? sweep.log_q_to_value : sweep.log_q_to_params)) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      const Index size = output_->size;
      kernels().axpy(n * size, 1.0, output_->adjoint + first * size, in(0).adjoint + first * size);
    });
  }

 private:
  bool value_;
};

// x (n, k) -> sums over k, times a factor for each of n or for all where there is a second input, summed over n or not.
// A factor of 0 leaves an event out whatever it is.
class EventTotal final : public Node {
 public:
  EventTotal(Index n, Index width, bool summed, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), n_(n), width_(width), summed_(summed) {
    if (n < 1 || width < 1 || in(0).size != n * width || output->size != (summed ? 1 : n) ||
        (scaled() && in(1).size != 1 && in(1).size != n)) {
      throw ConfigError("the sizes of a sum over events do not fit together");
    }
  }

  void forward(Index n_draws, Team&) override {
    for (Index s = 0; s < output_->rows(n_draws); ++s) {
      const double* const x = in(0).at(s);
      double* const out = output_->at(s);
      if (summed_ && !scaled()) {
        *out = kernels().sum(n_ * width_, x);
        continue;
      }
      double total = 0.0;
      for (Index e = 0; e < n_; ++e) {
        const double value = times(s, e, width_ == 1 ? x[e] : kernels().sum(width_, x + e * width_));
        if (summed_) {
          total += value;
        } else {
          out[e] = value;
        }
      }
      if (summed_) *out = total;
    }
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      double* const to = in(0).adjoint_at(s);
      const double* const cot = output_->adjoint_at(s);
      for (Index e = 0; e < n_; ++e) {
        const double share = times(s, e, cot[summed_ ? 0 : e]);
        for (Index i = 0; i < width_; ++i) to[e * width_ + i] += share;
      }
    });
  }

 private:
  bool scaled() const noexcept { return inputs_.size() > 1; }
  double times(Index s, Index e, double x) const noexcept {
    if (!scaled()) return x;
    const double factor = in(1).at(s)[in(1).size == 1 ? 0 : e];
    return factor == 0.0 ? 0.0 : factor * x;
  }

  Index n_, width_;
  bool summed_;
};

// out (n) = log sum_k p_k exp(c_k) for log densities c of K components: one input (n, K), or K inputs (n). The first
// input are logits or weights of the components, (K) or (n, K); where the mixture belongs to q their cotangents are
// subject to the sweep.
class LogMixture final : public Node {
 public:
  struct Options {
    bool probs, stacked, log_q;
  };

  LogMixture(Index n, Index size, Options options, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), n_(n), size_(size), options_(options), categories_(size, options.probs) {
    bool fits = n >= 1 && size >= 1 && (in(0).size == size || in(0).size == n * size) && output->size == n &&
                static_cast<Index>(inputs_.size()) == 1 + (options.stacked ? 1 : size);
    for (std::size_t k = 1; k < inputs_.size(); ++k) fits = fits && in(k).size == (options.stacked ? n * size : n);
    if (!fits) throw ConfigError("the sizes of a mixture do not fit together");
  }

  void reserve(Index n_draws) override {
    const Index rows = output_->rows(n_draws);
    shares_.assign(static_cast<std::size_t>(rows * n_ * size_), 0.0);
    prepared_.assign(static_cast<std::size_t>((in(0).per_draw ? rows : 1) * n_weights() * categories_.n_prepared()),
                     0.0);
    totals_.assign(static_cast<std::size_t>(size_), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    const Index rows = output_->rows(n_draws);
    team.for_range((in(0).per_draw ? rows : 1) * n_weights(), 256, [&](Index begin, Index end) {
      categories_.prepare_run(end - begin, in(0).value + begin * size_,
                              prepared_.data() + begin * categories_.n_prepared());
    });
    team.for_range(rows * n_, kTile, [&](Index begin, Index end) { mix(begin, end); });
  }

  void backward(const Sweep& sweep) override {
    const bool to_weights = in(0).active && (!options_.log_q || sweep.log_q_to_params);
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      const double *const cot = output_->adjoint_at(s), *const shares = shares_.data() + s * n_ * size_;
      sweep.team.for_range(n_, 1024, [&](Index begin, Index end) { pull_components(s, begin, end, cot, shares); });
      if (to_weights) pull_weights(s, cot, shares);
    });
  }

 private:
  static constexpr Index kTile = 256;  // events

  Index n_weights() const noexcept { return in(0).size / size_; }
  const double* prepared(Index s, Index e) const noexcept {
    const Index row = in(0).per_draw ? s : 0, event = n_weights() > 1 ? e : 0;
    return prepared_.data() + (row * n_weights() + event) * categories_.n_prepared();
  }
  const Slot& component(Index k) const noexcept { return in(options_.stacked ? 1 : static_cast<std::size_t>(k) + 1); }
  Index offset(Index e, Index k) const noexcept { return options_.stacked ? e * size_ + k : e; }

  // The values of events [begin, end) of all draws, and the posterior probabilities of their components: at most kTile
  // events, so that exponentials and logarithms are taken together.
  void mix(Index begin, Index end) noexcept {
    double most[kTile], total[kTile];
    double* const all = shares_.data() + begin * size_;
    Index s = begin / n_, e = begin % n_;
    for (Index t = 0; t < end - begin; ++t) {
      most[t] = shift(s, e, all + t * size_);
      if (++e == n_) {
        e = 0;
        ++s;
      }
    }
    kernels().exp((end - begin) * size_, all, all);
    for (Index t = 0; t < end - begin; ++t) {
      double* const shares = all + t * size_;
      double sum = 0.0;
      for (Index k = 0; k < size_; ++k) sum += shares[k];
      total[t] = std::isfinite(most[t]) ? sum : 1.0;
      const double factor = 1.0 / total[t];
      for (Index k = 0; k < size_; ++k) shares[k] *= factor;
    }
    kernels().log(end - begin, total, total);
    for (Index t = 0; t < end - begin; ++t) output_->value[begin + t] = most[t] + total[t];
  }

  // Fills shares (K) with the components' terms less the greatest, and returns that; with -inf where it is not finite.
  double shift(Index s, Index e, double* shares) const noexcept {
    const double* const log_p = prepared(s, e);
    double most = kMinusInfinity, sum = 0.0;
    for (Index k = 0; k < size_; ++k) {
      shares[k] = log_p[k] == kMinusInfinity ? log_p[k] : log_p[k] + component(k).at(s)[offset(e, k)];
      most = std::max(most, shares[k]);
      sum += shares[k];
    }
    if (std::isnan(sum)) most = kNaN;
    if (!std::isfinite(most)) {
      std::fill_n(shares, size_, kMinusInfinity);
      return most;
    }
    for (Index k = 0; k < size_; ++k) shares[k] -= most;
    return most;
  }

  void pull_components(Index s, Index begin, Index end, const double* cot, const double* shares) const noexcept {
    for (Index k = 0; k < size_; ++k) {
      const Slot& x = component(k);
      if (!x.active) continue;
      double* const to = x.adjoint_at(s);
      for (Index e = begin; e < end; ++e) to[offset(e, k)] += cot[e] * shares[e * size_ + k];
    }
  }

  void pull_weights(Index s, const double* cot, const double* shares) noexcept {
    std::fill(totals_.begin(), totals_.end(), 0.0);
    for (Index e = 0; e < n_; ++e) {
      for (Index k = 0; k < size_; ++k) totals_[static_cast<std::size_t>(k)] += cot[e] * shares[e * size_ + k];
      if (n_weights() == 1 && e + 1 < n_) continue;
      const Index event = n_weights() > 1 ? e : 0;
      const double* const theta = in(0).at(s) + event * size_;
      double* const grad = in(0).adjoint_at(s) + event * size_;
      for (Index k = 0; k < size_; ++k) categories_.add_one(theta, k, totals_[k], grad);
      categories_.add_normaliser(prepared(s, e), kernels().sum(size_, totals_.data()), grad);
      std::fill(totals_.begin(), totals_.end(), 0.0);
    }
  }

  Index n_, size_;
  Options options_;
  Categories categories_;
  std::vector<double> shares_;    // (rows, n, K)
  std::vector<double> prepared_;  // of the weights, see Categories
  std::vector<double> totals_;    // (K)
};

// y (n) -> x (n) with y = f(x), and behind it log|dx/dy| (n); outside the range of f: 0 and -infinity.
// For f = shift + scale x, inputs shift and scale follow, each of n numbers or one.
class InverseMap final : public Node {
 public:
  enum class Kind { exp, softplus, sigmoid, affine };

  InverseMap(Kind kind, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), kind_(kind), n_(in(0).size) {
    if (output->size != 2 * n_ || inputs_.size() != (kind == Kind::affine ? 3 : 1)) {
      throw ConfigError("the sizes of an inverse map do not fit together");
    }
    for (const Slot* x : inputs_) {
      if (x->size != 1 && x->size != n_) throw ConfigError("shift and scale must have the value's size or size 1");
    }
  }

  void forward(Index n_draws, Team&) override {
    for (Index s = 0; s < output_->rows(n_draws); ++s) {
      for (Index i = 0; i < n_; ++i) {
        double& x = output_->at(s)[i];
        double& slope = output_->at(s)[n_ + i];
        const double y = in(0).at(s)[i];
        switch (kind_) {
          case Kind::exp:
            slope = -(x = std::log(y));
            break;
          case Kind::softplus:
            slope = -std::log(-std::expm1(-y));
            x = y - slope;
            break;
          case Kind::sigmoid:
            x = std::log(y) - std::log1p(-y);
            slope = -std::log(y) - std::log1p(-y);
            break;
          case Kind::affine:
            x = (y - element(1, s, i)) / element(2, s, i);
            slope = -std::log(std::abs(element(2, s, i)));
            break;
        }
        if (kind_ != Kind::affine && !inside(y) && !std::isnan(y)) {
          x = 0.0;
          slope = kMinusInfinity;
        }
      }
    }
  }

  void backward(const Sweep& sweep) override {
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      for (Index i = 0; i < n_; ++i) {
        const double y = in(0).at(s)[i], x_bar = output_->adjoint_at(s)[i], slope_bar = output_->adjoint_at(s)[n_ + i];
        if (kind_ == Kind::affine) {
          const double scale = element(2, s, i);
          add(0, s, i, x_bar / scale);
          add(1, s, i, -x_bar / scale);
          add(2, s, i, -(x_bar * output_->at(s)[i] + slope_bar) / scale);
        } else if (inside(y)) {
          add(0, s, i, pulled(y, x_bar, slope_bar));
        }
      }
    });
  }

 private:
  bool inside(double y) const noexcept {
    return y > 0.0 && y < (kind_ == Kind::sigmoid ? 1.0 : std::numeric_limits<double>::infinity());
  }
  double pulled(double y, double x_bar, double slope_bar) const noexcept {
    switch (kind_) {
      case Kind::exp:
        return (x_bar - slope_bar) / y;
      case Kind::softplus:  // dx/dy = 1 / (1 - exp(-y)), d slope/dy = -1 / (exp(y) - 1)
        return -x_bar / std::expm1(-y) - slope_bar / std::expm1(y);
      default:
        return x_bar / (y * (1.0 - y)) + slope_bar * (1.0 / (1.0 - y) - 1.0 / y);
    }
  }
  double element(std::size_t k, Index s, Index i) const noexcept { return in(k).at(s)[in(k).size == 1 ? 0 : i]; }
  void add(std::size_t k, Index s, Index i, double cot) const noexcept {
    if (in(k).active) in(k).adjoint_at(s)[in(k).size == 1 ? 0 : i] += cot;
  }

  Kind kind_;
  Index n_;
};

}  // namespace klqp
