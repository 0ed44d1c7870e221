// Sums, differences, products, quotients and x log(y) of two arrays, each of the output's size or a single number.
#pragma once

#include <cmath>

#include "model/config.hpp"
#include "model/node.hpp"

namespace klqp {

enum class BinaryOperation { add, subtract, multiply, divide, xlogy, xlog1py };

// x log(y + c), 0 where x is, and its derivatives. At x = y + c = 0, where there are none, they are taken as 0.
template <int c>
struct TimesLog {
  static double log(double y) noexcept { return c == 0 ? std::log(y) : std::log1p(y); }
  static double value(double x, double y) noexcept { return x == 0.0 && !std::isnan(y) ? 0.0 : x * log(y); }
  static double by_x(double x, double y) noexcept { return x == 0.0 && y == -c ? 0.0 : log(y); }
  static double by_y(double x, double y) noexcept { return x == 0.0 && y == -c ? 0.0 : x / (y + c); }
};

class Binary final : public Node {
 public:
  Binary(BinaryOperation operation, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), operation_(operation) {
    require_inputs(2);
    for (const Slot* x : inputs_) {
      if (x->size != 1 && x->size != output->size) throw ConfigError("operands must have the output's size or size 1");
    }
    flat_ = is_flat(in(0)) && is_flat(in(1));
  }

  unsigned may_set() const override { return (is_own(in(0)) ? 1u : 0u) | (is_own(in(1)) ? 2u : 0u); }

  void forward(Index n_draws, Team& team) override {
    for_runs(0, output_->rows(n_draws), team, [&](const Run& run) { compute(run); });
  }

  void backward(const Sweep& sweep) override {
    for (int k = 0; k < 2; ++k) {
      const Slot& x = in(static_cast<std::size_t>(k));
      if (!x.active) continue;
      sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
        if (is_own(x)) {  // an element each
          const bool sets = (sweep.sets >> k & 1u) != 0;
          for_runs(first, n, sweep.team, [&](const Run& run) { add_share(k, run, x.adjoint + run.out, sets); });
        } else if (is_one(x)) {  // sums, in the order of the elements
          const Alone alone;
          for_runs(first, n, alone,
                   [&](const Run& run) { x.adjoint[x.per_draw ? run.out / output_->size : 0] += total_share(k, run); });
        } else {  // one array for all draws
          for (Index s = first; s < first + n; ++s) {
            for_runs(s, 1, sweep.team,
                     [&](const Run& run) { add_share(k, run, x.adjoint + (run.out - s * output_->size)); });
          }
        }
      });
    }
  }

 private:
  static constexpr Index kGrain = 8192, kTile = 256;

  // n elements of the output from element `out` of all draws on, and where their operands are.
  struct Run {
    Index out, n;
    const double *a, *b;
    bool one_a, one_b;  // a single number
  };

  bool is_own(const Slot& x) const noexcept { return x.size == output_->size && x.per_draw == output_->per_draw; }
  // Whether an operand is, over all draws, an array of the output's layout or one number.
  bool is_flat(const Slot& x) const noexcept { return is_own(x) || (x.size == 1 && !x.per_draw); }
  // Whether an operand is one number for a run of elements.
  bool is_one(const Slot& x) const noexcept {
    return x.size < output_->size || (flat_ && x.size == 1 && x.per_draw != output_->per_draw);
  }

  // Calls body(run) for the elements of some rows: all at once where that can be, otherwise row by row.
  template <class Workers, class Body>
  void for_runs(Index first, Index rows, Workers& team, const Body& body) const {
    const Slot &a = in(0), &b = in(1);
    const bool one_a = is_one(a), one_b = is_one(b);
    const Index size = output_->size;
    if (flat_) {
      team.for_range(rows * size, kGrain, [&](Index begin, Index end) {
        const Index out = first * size + begin;
        body(Run{out, end - begin, a.value + (one_a ? 0 : out), b.value + (one_b ? 0 : out), one_a, one_b});
      });
    } else {
      for_pieces(team, first, rows, size, kGrain, [&](Index s, Index begin, Index end) {
        body(Run{s * size + begin, end - begin, a.at(s) + (one_a ? 0 : begin), b.at(s) + (one_b ? 0 : begin), one_a,
                 one_b});
      });
    }
  }

  template <class F>
  static void apply(const Run& run, double* out, const F& f) noexcept {
    const double *const a = run.a, *const b = run.b;
    if (run.one_a) {
      const double x = *a;
      for (Index i = 0; i < run.n; ++i) out[i] = f(x, run.one_b ? *b : b[i]);
    } else if (run.one_b) {
      const double y = *b;
      for (Index i = 0; i < run.n; ++i) out[i] = f(a[i], y);
    } else {
      for (Index i = 0; i < run.n; ++i) out[i] = f(a[i], b[i]);
    }
  }

  void compute(const Run& run) const noexcept {
    double* const out = output_->value + run.out;
    switch (operation_) {
      case BinaryOperation::add:
        return apply(run, out, [](double x, double y) { return x + y; });
      case BinaryOperation::subtract:
        return apply(run, out, [](double x, double y) { return x - y; });
      case BinaryOperation::multiply:
        return apply(run, out, [](double x, double y) { return x * y; });
      case BinaryOperation::divide:
        return apply(run, out, [](double x, double y) { return x / y; });
      case BinaryOperation::xlogy:
        return apply(run, out, TimesLog<0>::value);
      case BinaryOperation::xlog1py:
        return apply(run, out, TimesLog<1>::value);
    }
  }

  // to (n) += the share of operand k in the cotangents of a run, or = where it is to be set.
  void add_share(int k, const Run& run, double* to, bool sets = false) const noexcept {
    const double *const cot = output_->adjoint + run.out, *const y = output_->value + run.out;
    const double* const other = k == 0 ? run.b : run.a;
    const bool one = k == 0 ? run.one_b : run.one_a;
    const auto add = [&](const auto& share) {
      if (sets) {
        for (Index i = 0; i < run.n; ++i) to[i] = share(i);
      } else {
        for (Index i = 0; i < run.n; ++i) to[i] += share(i);
      }
    };
    switch (operation_) {
      case BinaryOperation::add:
        return add([&](Index i) { return cot[i]; });
      case BinaryOperation::subtract:
        if (k == 0) return add([&](Index i) { return cot[i]; });
        return add([&](Index i) { return -cot[i]; });
      case BinaryOperation::multiply:
        if (one) return add([cot, x = *other](Index i) { return cot[i] * x; });
        return add([&](Index i) { return cot[i] * other[i]; });
      case BinaryOperation::divide:  // cot / b, and -cot a / b^2 = -(cot / b) (a / b)
        if (k == 0 && one) return add([cot, x = *other](Index i) { return cot[i] / x; });
        if (k == 0) return add([&](Index i) { return cot[i] / other[i]; });
        return add([&](Index i) { return -(cot[i] / run.b[i]) * y[i]; });
      case BinaryOperation::xlogy:
        return add([&](Index i) { return cot[i] * slope<TimesLog<0>>(k, run, i); });
      case BinaryOperation::xlog1py:
        return add([&](Index i) { return cot[i] * slope<TimesLog<1>>(k, run, i); });
    }
  }

  template <class F>
  static double slope(int k, const Run& run, Index i) noexcept {
    const double x = run.a[run.one_a ? 0 : i], y = run.b[run.one_b ? 0 : i];
    return k == 0 ? F::by_x(x, y) : F::by_y(x, y);
  }

  // The sum of the shares of operand k, a single number, in the cotangents of a run.
  double total_share(int k, const Run& run) const noexcept {
    const double *const cot = output_->adjoint + run.out, *const y = output_->value + run.out;
    const double* const other = k == 0 ? run.b : run.a;
    const bool one = k == 0 ? run.one_b : run.one_a;
    switch (operation_) {
      case BinaryOperation::add:
        return kernels().sum(run.n, cot);
      case BinaryOperation::subtract:
        return k == 0 ? kernels().sum(run.n, cot) : -kernels().sum(run.n, cot);
      case BinaryOperation::multiply:
        return one ? *other * kernels().sum(run.n, cot) : kernels().dot(run.n, cot, other);
      case BinaryOperation::divide:
        if (k == 1) return -kernels().dot(run.n, cot, y) / *run.b;
        return one ? kernels().sum(run.n, cot) / *other : total(run.n, [&](Index i) { return cot[i] / other[i]; });
      case BinaryOperation::xlogy:
        return total(run.n, [&](Index i) { return cot[i] * slope<TimesLog<0>>(k, run, i); });
      case BinaryOperation::xlog1py:
        return total(run.n, [&](Index i) { return cot[i] * slope<TimesLog<1>>(k, run, i); });
    }
    return 0.0;
  }

  template <class F>
  static double total(Index n, const F& share) noexcept {
    double total = 0.0, tile[kTile];
    for (Index at = 0; at < n; at += kTile) {
      const Index m = std::min(kTile, n - at);
      for (Index i = 0; i < m; ++i) tile[i] = share(at + i);
      total += kernels().sum(m, tile);
    }
    return total;
  }

  BinaryOperation operation_;
  bool flat_;
};

}  // namespace klqp
