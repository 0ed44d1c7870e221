// Logarithms of gamma draws, with their derivatives by the concentration (implicit reparameterisation).
#pragma once

#include "model/config.hpp"
#include "model/node.hpp"
#include "model/nodes/shares.hpp"

namespace klqp {

// log z (n), z ~ Gamma(concentration, 1), from the columns [begin, begin + n) of the noise. Inputs: concentration, of n
// numbers or of one; noise.
class LogGammaDraw final : public Node {
 public:
  LogGammaDraw(Index begin, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), begin_(begin), n_(output->size) {
    require_inputs(2);
    if (in(0).size != 1 && in(0).size != n_) throw ConfigError("the concentration must have the draw's size or size 1");
    if (begin < 0 || begin + n_ > in(1).size) throw ConfigError("a gamma draw reaches beyond its noise");
  }

  Index work(Index n_draws) const override { return 128 * output_->rows(n_draws) * n_; }

  void reserve(Index n_draws) override {
    if (in(0).active && !lies_flat(in(0))) shares_.assign(static_cast<std::size_t>(output_->rows(n_draws) * n_), 0.0);
  }

  void forward(Index n_draws, Team& team) override {
    for_tiles(0, output_->rows(n_draws), team, [&](Index at, Index m) {
      double concentrations[kTile], noises[kTile];
      const double* const concentration = operand(in(0), 0, at, m, concentrations);
      const double* const noise = operand(in(1), begin_, at, m, noises);
      kernels().gamma_log_draws(m, concentration, is_shared(), noise, output_->value + at);
    });
  }

  void backward(const Sweep& sweep) override {
    const Slot& to = in(0);
    if (!to.active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      if (lies_flat(to)) {
        for_shares(first, rows, sweep.team,
                   [&](Index at, Index m, const double* shares) { kernels().axpy(m, 1.0, shares, to.adjoint + at); });
        return;
      }
      for_shares(first, rows, sweep.team,
                 [&](Index at, Index m, const double* shares) { std::copy_n(shares, m, shares_.data() + at); });
      add_shares(to, n_, first, rows, shares_.data() + first * n_, sweep.team);
    });
  }

 private:
  static constexpr Index kGrain = 1024, kTile = 256;

  // One concentration for all elements of all draws.
  bool is_shared() const noexcept { return in(0).size == 1 && !in(0).per_draw; }
  // Whether the elements of all draws lie as in the output.
  bool lies_flat(const Slot& x) const noexcept { return x.size == n_ && x.per_draw == output_->per_draw; }

  // Calls body(at, m) for the elements [at, at + m) of some draws, the elements of all draws being counted through.
  template <class Body>
  void for_tiles(Index first, Index rows, Team& team, const Body& body) const {
    team.for_range(rows * n_, kGrain, [&](Index begin, Index end) {
      for (Index at = begin; at < end; at += kTile) body(first * n_ + at, std::min(kTile, end - at));
    });
  }

  // The m numbers of an operand that belong to these elements, copied where they do not lie one after the other; or the
  // shared one.
  const double* operand(const Slot& x, Index offset, Index at, Index m, double* copies) const noexcept {
    if (lies_flat(x)) return x.value + at;
    if (x.size == 1 && !x.per_draw) return x.value;
    Index s = at / n_, i = at % n_;
    for (Index done = 0; done < m; ++s, i = 0) {
      const Index count = std::min(n_ - i, m - done);
      if (x.size == 1) {
        std::fill_n(copies + done, count, *x.at(s));
      } else {
        std::copy_n(x.at(s) + offset + i, count, copies + done);
      }
      done += count;
    }
    return copies;
  }

  // Calls body(at, m, cotangents times derivatives of these elements).
  template <class Body>
  void for_shares(Index first, Index rows, Team& team, const Body& body) const {
    for_tiles(first, rows, team, [&](Index at, Index m) {
      double concentrations[kTile], shares[kTile];
      const double* const concentration = operand(in(0), 0, at, m, concentrations);
      kernels().gamma_log_gradient(m, concentration, is_shared(), output_->value + at, shares);
      for (Index i = 0; i < m; ++i) shares[i] *= output_->adjoint[at + i];
      body(at, m, shares);
    });
  }

  Index begin_, n_;
  std::vector<double> shares_;  // (S, n), only where draws share concentrations
};

}  // namespace klqp
