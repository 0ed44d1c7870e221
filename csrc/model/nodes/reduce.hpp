// Sums, running sums, log-sum-exps and softmaxes along the middle axis of an array (outer, n, inner).
#pragma once

#include <cmath>
#include <numeric>

#include "model/node.hpp"

namespace klqp {

struct Axis {
  Index outer, n, inner;
};

// out (outer, inner) = sum over the middle axis
class Sum final : public Node {
 public:
  Sum(Axis axis, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), axis_(axis) {}

  void forward(Index n_draws, Team& team) override {
    team.for_range(output_->rows(n_draws) * axis_.outer, grain(), [&](Index begin, Index end) {
      for (Index o = begin; o < end; ++o) {
        const double* const x = in(0).value + o * axis_.n * axis_.inner;
        double* const out = output_->value + o * axis_.inner;
        if (axis_.inner == 1) {
          *out = axis_.n > kShort ? kernels().sum(axis_.n, x) : std::accumulate(x, x + axis_.n, 0.0);
          continue;
        }
        std::fill_n(out, axis_.inner, 0.0);
        for (Index k = 0; k < axis_.n; ++k) {
          for (Index j = 0; j < axis_.inner; ++j) out[j] += x[k * axis_.inner + j];
        }
      }
    });
  }

  // Each element has one sum.
  unsigned may_set() const override { return 1u; }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    const bool sets = sweep.sets != 0;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      sweep.team.for_range(n * axis_.outer, grain(), [&](Index begin, Index end) {
        for (Index o = first * axis_.outer + begin; o < first * axis_.outer + end; ++o) {
          double* const to = in(0).adjoint + o * axis_.n * axis_.inner;
          const double* const from = output_->adjoint + o * axis_.inner;
          if (axis_.inner == 1 && sets) {
            std::fill_n(to, axis_.n, *from);
            continue;
          }
          if (axis_.inner == 1) {
            for (Index k = 0; k < axis_.n; ++k) to[k] += *from;
            continue;
          }
          for (Index k = 0; k < axis_.n; ++k) {
            if (sets) {
              std::copy_n(from, axis_.inner, to + k * axis_.inner);
              continue;
            }
            for (Index j = 0; j < axis_.inner; ++j) to[k * axis_.inner + j] += from[j];
          }
        }
      });
    });
  }

 private:
  static constexpr Index kShort = 8;  // sums that are not worth the call of a kernel

  Index grain() const noexcept { return std::max<Index>(1, 8192 / (axis_.n * axis_.inner)); }
  Axis axis_;
};

// Lines along the axis, line l = o * inner + j of a row from element o * n * inner + j on, `inner` apart. Their
// exponentials go through tiles: many short lines at once, or pieces of a long one.
class Lines {
 public:
  static constexpr Index kTile = 256;

  explicit Lines(Axis axis) : axis_(axis), together_(std::max<Index>(1, kTile / axis.n)) {}

  Index per_row() const noexcept { return axis_.outer * axis_.inner; }
  Index n() const noexcept { return axis_.n; }
  Index step() const noexcept { return axis_.inner; }
  Index offset(Index line) const noexcept {
    return axis_.inner == 1 ? line * axis_.n : line / axis_.inner * axis_.n * axis_.inner + line % axis_.inner;
  }
  Index grain() const noexcept { return together_ * std::max<Index>(1, 2048 / (together_ * axis_.n)); }

  // Calls body(line, first, count, e) with e (count) = exp(x - shift(line)) of elements [first, first + count) of each
  // of the lines [begin, end).
  template <class Shift, class Body>
  void for_exponentials(Index begin, Index end, const double* x, const Shift& shift, const Body& body) const {
    double tile[kTile];
    for (Index at = begin; at < end; at += together_) {
      const Index n_lines = std::min(together_, end - at);
      for (Index first = 0; first < axis_.n; first += kTile) {
        const Index count = std::min(kTile, axis_.n - first);
        for (Index l = 0; l < n_lines; ++l) {
          const double* const from = x + offset(at + l) + first * axis_.inner;
          const double less = shift(at + l);
          for (Index k = 0; k < count; ++k) tile[l * count + k] = from[k * axis_.inner] - less;
        }
        kernels().exp(n_lines * count, tile, tile);
        for (Index l = 0; l < n_lines; ++l) body(at + l, first, count, tile + l * count);
      }
    }
  }

  // out (end - begin) = log sum exp of the lines [begin, end).
  void log_sum_exp(Index begin, Index end, const double* x, double* out) const noexcept {
    double totals[kTile];
    for (Index at = begin; at < end; at += kTile) {
      const Index m = std::min(kTile, end - at);
      double* const most = out + (at - begin);
      for (Index l = 0; l < m; ++l) most[l] = greatest(x + offset(at + l));
      std::fill_n(totals, m, 0.0);
      for_exponentials(
          at, at + m, x, [&](Index line) { return most[line - at]; },
          [&](Index line, Index, Index count, const double* e) {
            double total = 0.0;
            for (Index k = 0; k < count; ++k) total += e[k];
            totals[line - at] += total;
          });
      kernels().log(m, totals, totals);
      for (Index l = 0; l < m; ++l) most[l] += totals[l];
    }
  }

 private:
  // The maximum of a line, or 0 where that is infinite: what is subtracted before the exponentials.
  double greatest(const double* x) const noexcept {
    double most = x[0];
    for (Index k = 1; k < axis_.n; ++k) most = std::max(most, x[k * axis_.inner]);
    return std::isfinite(most) ? most : 0.0;
  }

  Axis axis_;
  Index together_;  // lines that share a tile
};

// out (outer, inner) = log sum exp over the middle axis; its gradient is the softmax.
class LogSumExp final : public Node {
 public:
  LogSumExp(Axis axis, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), lines_(axis) {}

  void forward(Index n_draws, Team& team) override {
    team.for_range(output_->rows(n_draws) * lines_.per_row(), lines_.grain(), [&](Index begin, Index end) {
      lines_.log_sum_exp(begin, end, in(0).value, output_->value + begin);
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    const double* const y = output_->value;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      const Index start = first * lines_.per_row();
      sweep.team.for_range(n * lines_.per_row(), lines_.grain(), [&](Index begin, Index end) {
        lines_.for_exponentials(
            start + begin, start + end, in(0).value, [&](Index line) { return y[line]; },
            [&](Index line, Index from, Index count, const double* e) {
              if (!std::isfinite(y[line])) return;
              const double cot = output_->adjoint[line];
              double* const to = in(0).adjoint + lines_.offset(line) + from * lines_.step();
              for (Index k = 0; k < count; ++k) to[k * lines_.step()] += cot * e[k];
            });
      });
    });
  }

  Index work(Index n_draws) const override { return 16 * output_->rows(n_draws) * in(0).size; }

 private:
  Lines lines_;
};

// out = x - log sum exp x along the middle axis, of x's shape
class LogSoftmax final : public Node {
 public:
  LogSoftmax(Axis axis, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), lines_(axis) {}

  void forward(Index n_draws, Team& team) override {
    team.for_range(output_->rows(n_draws) * lines_.per_row(), lines_.grain(), [&](Index begin, Index end) {
      double norm[Lines::kTile];
      for (Index at = begin; at < end; at += Lines::kTile) {
        const Index m = std::min(Lines::kTile, end - at);
        lines_.log_sum_exp(at, at + m, in(0).value, norm);
        for (Index l = 0; l < m; ++l) {
          const double* const x = in(0).value + lines_.offset(at + l);
          double* const out = output_->value + lines_.offset(at + l);
          for (Index k = 0; k < lines_.n(); ++k) out[k * lines_.step()] = x[k * lines_.step()] - norm[l];
        }
      }
    });
  }

  // cot - softmax sum(cot)
  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      const Index start = first * lines_.per_row();
      sweep.team.for_range(n * lines_.per_row(), lines_.grain(), [&](Index begin, Index end) {
        double total = 0.0;
        lines_.for_exponentials(
            start + begin, start + end, output_->value, [](Index) { return 0.0; },
            [&](Index line, Index from, Index count, const double* e) {
              const double* const cots = output_->adjoint + lines_.offset(line);
              if (from == 0) {
                total = 0.0;
                for (Index k = 0; k < lines_.n(); ++k) total += cots[k * lines_.step()];
              }
              const double* const cot = cots + from * lines_.step();
              double* const to = in(0).adjoint + lines_.offset(line) + from * lines_.step();
              for (Index k = 0; k < count; ++k) to[k * lines_.step()] += cot[k * lines_.step()] - e[k] * total;
            });
      });
    });
  }

  Index work(Index n_draws) const override { return 16 * output_->rows(n_draws) * in(0).size; }

 private:
  Lines lines_;
};

// out = running sums along the middle axis, of x's shape
class CumulativeSum final : public Node {
 public:
  CumulativeSum(Axis axis, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), axis_(axis) {}

  void forward(Index n_draws, Team&) override {
    const Index block = axis_.n * axis_.inner;
    for (Index o = 0; o < output_->rows(n_draws) * axis_.outer; ++o) {
      const double* const x = in(0).value + o * block;
      double* const out = output_->value + o * block;
      std::copy_n(x, axis_.inner, out);
      for (Index i = axis_.inner; i < block; ++i) out[i] = out[i - axis_.inner] + x[i];
    }
  }

  // The running sums of the cotangent from the other end; that of the output is spent on them.
  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    const Index block = axis_.n * axis_.inner;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      for (Index o = first * axis_.outer; o < (first + n) * axis_.outer; ++o) {
        double* const cot = output_->adjoint + o * block;
        for (Index i = block - axis_.inner; i-- > 0;) cot[i] += cot[i + axis_.inner];
        kernels().axpy(block, 1.0, cot, in(0).adjoint + o * block);
      }
    });
  }

 private:
  Axis axis_;
};

// out (outer, n_1 + n_2 + ..., inner): inputs (outer, n_i, inner) side by side
class Concatenate final : public Node {
 public:
  Concatenate(Index outer, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), outer_(outer), width_(outer > 0 ? output->size / outer : 0) {
    Index total = 0;
    bool fits = outer > 0 && !inputs_.empty();
    for (const Slot* x : inputs_) {
      total += x->size;
      fits = fits && x->size % outer == 0;
    }
    if (!fits || total != output->size) throw ConfigError("the sizes of a concatenation do not fit together");
  }

  void forward(Index n_draws, Team&) override {
    for (Index s = 0; s < output_->rows(n_draws); ++s) {
      for_parts([&](const Slot& x, Index begin, Index width) {
        for (Index o = 0; o < outer_; ++o) {
          const double* const from = x.at(s) + o * width;
          double* const to = output_->at(s) + o * width_ + begin;
          for (Index j = 0; j < width; ++j) to[j] = from[j];
        }
      });
    }
  }

  void backward(const Sweep& sweep) override {
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      for_parts([&](const Slot& x, Index begin, Index width) {
        if (!x.active) return;
        for (Index o = 0; o < outer_; ++o) {
          const double* const from = output_->adjoint_at(s) + o * width_ + begin;
          double* const to = x.adjoint_at(s) + o * width;
          for (Index j = 0; j < width; ++j) to[j] += from[j];
        }
      });
    });
  }

 private:
  template <class Body>
  void for_parts(const Body& body) const {
    Index begin = 0;
    for (const Slot* x : inputs_) {
      const Index width = x->size / outer_;
      body(*x, begin, width);
      begin += width;
    }
  }
  Index outer_, width_;
};

}  // namespace klqp
