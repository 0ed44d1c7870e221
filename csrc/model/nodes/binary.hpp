// Sums, differences, products and quotients of two arrays, each of the output's size or a single number.
#pragma once

#include "model/config.hpp"
#include "model/node.hpp"

namespace klqp {

enum class BinaryOperation { add, subtract, multiply, divide };

class Binary final : public Node {
 public:
  Binary(BinaryOperation operation, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), operation_(operation) {
    for (const Slot* x : inputs_) {
      if (x->size != 1 && x->size != output->size) throw ConfigError("operands must have the output's size or size 1");
    }
  }

  void forward(Index n_draws, Team& team) override {
    const Slot &a = in(0), &b = in(1);
    // One run over all rows where no operand repeats.
    const bool flat = matches(a) && matches(b);
    const Index rows = flat ? 1 : output_->rows(n_draws);
    const Index n = flat ? output_->rows(n_draws) * output_->size : output_->size;
    for (Index s = 0; s < rows; ++s) {
      team.for_range(n, kGrain, [&](Index begin, Index end) {
        const Index i = a.size == 1 && output_->size > 1 ? 0 : begin, j = b.size == 1 && output_->size > 1 ? 0 : begin;
        compute(end - begin, a.at(s) + i, a.size < output_->size, b.at(s) + j, b.size < output_->size,
                output_->at(s) + begin);
      });
    }
  }

  void backward(const Sweep& sweep) override {
    for (int k = 0; k < 2; ++k) {
      if (!in(static_cast<std::size_t>(k)).active) continue;
      sweep.for_each_row(output_->per_draw, [&](Index s) { pull(k, s, sweep.team); });
    }
  }

 private:
  static constexpr Index kGrain = 8192, kTile = 256;

  bool matches(const Slot& x) const noexcept { return x.size == output_->size && x.per_draw == output_->per_draw; }

  template <class F>
  static void apply(Index n, const double* a, bool one_a, const double* b, bool one_b, double* out, const F& f) {
    if (one_a) {
      const double x = *a;
      for (Index i = 0; i < n; ++i) out[i] = f(x, b[i]);
    } else if (one_b) {
      const double y = *b;
      for (Index i = 0; i < n; ++i) out[i] = f(a[i], y);
    } else {
      for (Index i = 0; i < n; ++i) out[i] = f(a[i], b[i]);
    }
  }

  void compute(Index n, const double* a, bool one_a, const double* b, bool one_b, double* out) const noexcept {
    switch (operation_) {
      case BinaryOperation::add:
        return apply(n, a, one_a, b, one_b, out, [](double x, double y) { return x + y; });
      case BinaryOperation::subtract:
        return apply(n, a, one_a, b, one_b, out, [](double x, double y) { return x - y; });
      case BinaryOperation::multiply:
        return apply(n, a, one_a, b, one_b, out, [](double x, double y) { return x * y; });
      case BinaryOperation::divide:
        return apply(n, a, one_a, b, one_b, out, [](double x, double y) { return x / y; });
    }
  }

  // The share of operand k in the cotangent of elements [begin, begin + n) of row s.
  void share(int k, Index s, Index begin, Index n, double* out) const noexcept {
    const Slot &a = in(0), &b = in(1);
    const double* const cot = output_->adjoint_at(s) + begin;
    const bool one_a = a.size < output_->size, one_b = b.size < output_->size;
    const double* const x = a.at(s) + (one_a ? 0 : begin);
    const double* const y = b.at(s) + (one_b ? 0 : begin);
    const auto product = [](double u, double v) { return u * v; };
    const auto quotient = [](double u, double v) { return u / v; };
    switch (operation_) {
      case BinaryOperation::add:
        std::copy_n(cot, n, out);
        return;
      case BinaryOperation::subtract:
        kernels().scale(n, k == 0 ? 1.0 : -1.0, cot, out);
        return;
      case BinaryOperation::multiply:
        apply(n, cot, false, k == 0 ? y : x, k == 0 ? one_b : one_a, out, product);
        return;
      case BinaryOperation::divide:
        apply(n, cot, false, y, one_b, out, quotient);
        if (k == 1) {  // -cot x / y^2 = -(cot / y) (x / y)
          apply(n, out, false, output_->at(s) + begin, false, out, product);
          kernels().scale(n, -1.0, out, out);
        }
        return;
    }
  }

  void pull(int k, Index s, Team& team) const noexcept {
    const Slot& x = in(static_cast<std::size_t>(k));
    if (x.size == 1) {
      double total = 0.0, tile[kTile];
      for (Index at = 0; at < output_->size; at += kTile) {
        const Index m = std::min(kTile, output_->size - at);
        share(k, s, at, m, tile);
        total += kernels().sum(m, tile);
      }
      *x.adjoint_at(s) += total;
      return;
    }
    team.for_range(output_->size, kGrain, [&](Index begin, Index end) {
      double tile[kTile];
      for (Index at = begin; at < end; at += kTile) {
        const Index m = std::min(kTile, end - at);
        share(k, s, at, m, tile);
        kernels().axpy(m, 1.0, tile, x.adjoint_at(s) + at);
      }
    });
  }

  BinaryOperation operation_;
};

}  // namespace klqp
