// Sums, log-sum-exps and softmaxes along the middle axis of an array (outer, n, inner).
#pragma once

#include <cmath>
#include <limits>

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
          *out = kernels().sum(axis_.n, x);
          continue;
        }
        std::fill_n(out, axis_.inner, 0.0);
        for (Index k = 0; k < axis_.n; ++k) kernels().axpy(axis_.inner, 1.0, x + k * axis_.inner, out);
      }
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      sweep.team.for_range(n * axis_.outer, grain(), [&](Index begin, Index end) {
        for (Index o = first * axis_.outer + begin; o < first * axis_.outer + end; ++o) {
          double* const to = in(0).adjoint + o * axis_.n * axis_.inner;
          const double* const from = output_->adjoint + o * axis_.inner;
          for (Index k = 0; k < axis_.n; ++k) {
            for (Index j = 0; j < axis_.inner; ++j) to[k * axis_.inner + j] += from[j];
          }
        }
      });
    });
  }

 private:
  Index grain() const noexcept { return std::max<Index>(1, 8192 / (axis_.n * axis_.inner)); }
  Axis axis_;
};

// out (outer, inner) = log sum exp over the middle axis; its gradient is the softmax.
class LogSumExp final : public Node {
 public:
  LogSumExp(Axis axis, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), axis_(axis) {}

  void forward(Index n_draws, Team&) override {
    for_lines(0, output_->rows(n_draws), [&](const double* x, Index, Index at) {
      double most = -std::numeric_limits<double>::infinity();
      for (Index k = 0; k < axis_.n; ++k) most = std::max(most, x[k * axis_.inner]);
      double total = 0.0;
      for (Index k = 0; k < axis_.n; ++k) total += std::exp(x[k * axis_.inner] - most);
      output_->value[at] = std::isfinite(most) ? most + std::log(total) : most;
    });
  }

  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      for_lines(first, n, [&](const double* x, Index offset, Index at) {
        double* const to = in(0).adjoint + offset;
        const double cot = output_->adjoint[at], y = output_->value[at];
        if (!std::isfinite(y)) return;
        for (Index k = 0; k < axis_.n; ++k) to[k * axis_.inner] += cot * std::exp(x[k * axis_.inner] - y);
      });
    });
  }

 private:
  // Calls body(x, offset of x, position in the output) for each line along the axis.
  template <class Body>
  void for_lines(Index first, Index rows, const Body& body) const {
    for (Index o = first * axis_.outer; o < (first + rows) * axis_.outer; ++o) {
      for (Index j = 0; j < axis_.inner; ++j) {
        const Index offset = o * axis_.n * axis_.inner + j;
        body(in(0).value + offset, offset, o * axis_.inner + j);
      }
    }
  }
  Axis axis_;
};

// out = x - log sum exp x along the middle axis, of x's shape
class LogSoftmax final : public Node {
 public:
  LogSoftmax(Axis axis, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), axis_(axis) {}

  void forward(Index n_draws, Team&) override {
    for_lines(0, output_->rows(n_draws), [&](Index offset) {
      const double* const x = in(0).value + offset;
      double* const out = output_->value + offset;
      double most = x[0], total = 0.0;
      for (Index k = 0; k < axis_.n; ++k) most = std::max(most, x[k * axis_.inner]);
      for (Index k = 0; k < axis_.n; ++k) total += std::exp(x[k * axis_.inner] - most);
      const double norm = most + std::log(total);
      for (Index k = 0; k < axis_.n; ++k) out[k * axis_.inner] = x[k * axis_.inner] - norm;
    });
  }

  // cot - softmax sum(cot)
  void backward(const Sweep& sweep) override {
    if (!in(0).active) return;
    sweep.for_rows(output_->per_draw, [&](Index first, Index n) {
      for_lines(first, n, [&](Index offset) {
        const double* const cot = output_->adjoint + offset;
        const double* const y = output_->value + offset;
        double* const to = in(0).adjoint + offset;
        double total = 0.0;
        for (Index k = 0; k < axis_.n; ++k) total += cot[k * axis_.inner];
        for (Index k = 0; k < axis_.n; ++k) {
          to[k * axis_.inner] += cot[k * axis_.inner] - std::exp(y[k * axis_.inner]) * total;
        }
      });
    });
  }

 private:
  template <class Body>
  void for_lines(Index first, Index rows, const Body& body) const {
    for (Index o = first * axis_.outer; o < (first + rows) * axis_.outer; ++o) {
      for (Index j = 0; j < axis_.inner; ++j) body(o * axis_.n * axis_.inner + j);
    }
  }
  Axis axis_;
};

// out (outer, n_1 + n_2 + ..., inner): inputs (outer, n_i, inner) side by side
class Concatenate final : public Node {
 public:
  Concatenate(Index outer, std::vector<Slot*> inputs, Slot* output)
      : Node(std::move(inputs), output), outer_(outer), width_(output->size / outer) {}

  void forward(Index n_draws, Team&) override {
    for (Index s = 0; s < output_->rows(n_draws); ++s) {
      for_parts([&](const Slot& x, Index begin, Index width) {
        for (Index o = 0; o < outer_; ++o) std::copy_n(x.at(s) + o * width, width, output_->at(s) + o * width_ + begin);
      });
    }
  }

  void backward(const Sweep& sweep) override {
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      for_parts([&](const Slot& x, Index begin, Index width) {
        if (!x.active) return;
        for (Index o = 0; o < outer_; ++o) {
          kernels().axpy(width, 1.0, output_->adjoint_at(s) + o * width_ + begin, x.adjoint_at(s) + o * width);
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
