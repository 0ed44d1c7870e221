// Rbf: the kernel matrix of a Gaussian process with squared exponential covariance.
#pragma once

#include <algorithm>

#include "core/limits.hpp"
#include "model/node.hpp"

namespace klqp {

// out (n, m): variance * exp(-sum_c (x_ic - y_jc)^2 / (2 l_c^2)). Inputs: x (n, d), y (m, d) unless it is x again,
// lengthscale l (1 or d), variance (1). With one set of points `jitter` is added to the diagonal.
class Rbf final : public Node {
 public:
  struct Shape {
    Index n, m, d;
    bool cross;  // y is an input of its own
    double jitter;
  };

  Rbf(Shape shape, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), shape_(shape) {
    const auto [n, m, d, cross, jitter] = shape;
    if (inputs_.size() != (cross ? 4 : 3) || (!cross && n != m) || in(0).size != n * d || y().size != m * d ||
        (lengthscale().size != 1 && lengthscale().size != d) || variance().size != 1 || output->size != n * m) {
      throw ConfigError("the sizes of a kernel matrix do not fit together");
    }
  }

  void reserve(Index n_draws) override {
    parts_.assign(static_cast<std::size_t>(n_chunks() * (lengthscale().size + 1)), 0.0);
    line_.assign(static_cast<std::size_t>(n_chunks() * shape_.m), 0.0);
    precision_.assign(static_cast<std::size_t>(output_->rows(n_draws) * shape_.d), 0.0);
    if (fixed_points()) {
      squares_.assign(static_cast<std::size_t>(shape_.n * shape_.m), 0.0);
    } else {
      squares_.clear();
    }
  }

  // Distances between points of data, once, where one lengthscale serves all coordinates.
  void data_changed() override {
    if (squares_.empty()) return;
    const std::vector<double> ones(static_cast<std::size_t>(shape_.d), 1.0);
    for (Index i = 0; i < shape_.n; ++i) fill_squares(0, i, ones.data(), squares_.data() + i * shape_.m);
  }

  void forward(Index n_draws, Team& team) override {
    [[maybe_unused]] const Index n = shape_.n, m = shape_.m, d = shape_.d;
    [[maybe_unused]] const bool cross = shape_.cross;
    [[maybe_unused]] const double jitter = shape_.jitter;
    const Index rows = output_->rows(n_draws);
    for (Index s = 0; s < rows; ++s) {
      const double* const l = lengthscale().at(s);
      double* const precision = precision_.data() + s * d;
      for (Index c = 0; c < d; ++c) {
        const double scale = l[lengthscale().size == 1 ? 0 : c];
        precision[c] = scale > 0.0 ? 1.0 / (scale * scale) : kNaN;
      }
    }
    team.for_range(rows * n, grain(), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const Index s = t / n, i = t % n;
        const double* const precision = precision_.data() + s * d;
        const double v = *variance().at(s);
        double* const out = output_->at(s) + i * m;
        if (squares_.empty()) {
          fill_squares(s, i, precision, out);
          kernels().scale(m, -0.5, out, out);
        } else {
          kernels().scale(m, -0.5 * precision[0], squares_.data() + i * m, out);
        }
        kernels().exp(m, out, out);
        kernels().scale(m, v, out, out);
        if (!cross) out[i] += jitter;
      }
    });
  }

  // With G = cot * K (jitter apart): v-bar = sum G / v, l_c-bar = sum G (x - y)_c^2 / l_c^3,
  // x_ic-bar = -sum_j G (x - y)_c / l_c^2, y_jc-bar = sum_i G (x - y)_c / l_c^2.
  void backward(const Sweep& sweep) override {
    const bool points = in(0).active || y().active;
    const Index n = shape_.n, step = points ? n : grain(), wide = lengthscale().size + 1;
    sweep.for_each_row(output_->per_draw, [&](Index s) {
      std::fill(parts_.begin(), parts_.end(), 0.0);
      sweep.team.for_range(n, step, [&](Index begin, Index end) {
        const Index chunk = begin / step;
        double *const part = parts_.data() + chunk * wide, *const g = line_.data() + chunk * shape_.m;
        for (Index i = begin; i < end; ++i) pull(s, i, g, part);
      });
      for (Index chunk = 0; chunk < (n + step - 1) / step; ++chunk) {
        const double* const part = parts_.data() + chunk * wide;
        if (variance().active) *variance().adjoint_at(s) += part[0];
        if (lengthscale().active) kernels().axpy(wide - 1, 1.0, part + 1, lengthscale().adjoint_at(s));
      }
    });
  }

  Index work(Index n_draws) const override {
    return output_->rows(n_draws) * output_->size * (20 + (squares_.empty() ? 2 * shape_.d : 0));
  }

 private:
  static constexpr Index kMostChunks = 16;

  const Slot& y() const noexcept { return in(shape_.cross ? 1 : 0); }
  const Slot& lengthscale() const noexcept { return in(shape_.cross ? 2 : 1); }
  const Slot& variance() const noexcept { return in(shape_.cross ? 3 : 2); }
  bool fixed_points() const noexcept { return in(0).fixed && y().fixed && lengthscale().size == 1; }
  // Rows of the matrix in one piece of work.
  Index grain() const noexcept {
    return std::max((shape_.n + kMostChunks - 1) / kMostChunks, std::max<Index>(1, 2048 / (shape_.m * shape_.d)));
  }
  Index n_chunks() const noexcept { return (shape_.n + grain() - 1) / grain(); }

  // out (m) = sum_c precision_c (x_ic - y_jc)^2
  void fill_squares(Index s, Index i, const double* precision, double* out) const noexcept {
    const double *const x = in(0).at(s) + i * shape_.d, *const points = y().at(s);
    for (Index j = 0; j < shape_.m; ++j) {
      double sum = 0.0;
      for (Index c = 0; c < shape_.d; ++c) {
        const double gap = x[c] - points[j * shape_.d + c];
        sum += precision[c] * gap * gap;
      }
      out[j] = sum;
    }
  }

  void pull(Index s, Index i, double* g, double* part) const noexcept {
    [[maybe_unused]] const Index n = shape_.n, m = shape_.m, d = shape_.d;
    [[maybe_unused]] const bool cross = shape_.cross;
    [[maybe_unused]] const double jitter = shape_.jitter;
    const double *const k = output_->at(s) + i * m, *const cot = output_->adjoint_at(s) + i * m;
    const double* const precision = precision_.data() + s * d;
    for (Index j = 0; j < m; ++j) g[j] = cot[j] * k[j];
    if (!cross) g[i] = cot[i] * (k[i] - jitter);
    part[0] += kernels().sum(m, g) / *variance().at(s);
    if (!squares_.empty()) {
      const double l = *lengthscale().at(s);
      part[1] += kernels().dot(m, g, squares_.data() + i * m) / (l * l * l);
      return;
    }
    const double *const x = in(0).at(s) + i * d, *const points = y().at(s), *const l = lengthscale().at(s);
    const bool one = lengthscale().size == 1;
    for (Index c = 0; c < d; ++c) {
      double squares = 0.0, gaps = 0.0;
      for (Index j = 0; j < m; ++j) {
        const double gap = x[c] - points[j * d + c];
        gaps += g[j] * gap;
        squares += g[j] * gap * gap;
        if (y().active) y().adjoint_at(s)[j * d + c] += g[j] * gap * precision[c];
      }
      part[1 + (one ? 0 : c)] += squares * precision[c] / l[one ? 0 : c];
      if (in(0).active) in(0).adjoint_at(s)[i * d + c] -= gaps * precision[c];
    }
  }

  Shape shape_;
  std::vector<double> squares_;    // (n, m), of data
  std::vector<double> precision_;  // (rows, d)
  std::vector<double> parts_;      // (chunks, 1 + lengthscales): shares of variance and lengthscales
  std::vector<double> line_;       // (chunks, m)
};

}  // namespace klqp
