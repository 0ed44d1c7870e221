// MatMul: products of matrices, (m, k) by (k, n), either of which may have a draw axis.
#pragma once

#include "model/node.hpp"

namespace klqp {

struct ProductShape {
  Index m, k, n;
};

class MatMul final : public Node {
 public:
  MatMul(ProductShape shape, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), shape_(shape) {
    require_inputs(2);
    const auto [m, k, n] = shape;
    if (m < 1 || k < 1 || n < 1 || in(0).size != m * k || in(1).size != k * n || output->size != m * n) {
      throw ConfigError("the sizes of a matrix product do not fit together");
    }
  }

  void forward(Index n_draws, Team& team) override {
    const auto [m, k, n] = shape_;
    const Slot &a = in(0), &b = in(1);
    const Index rows = output_->rows(n_draws);
    std::fill_n(output_->value, rows * output_->size, 0.0);
    if (one_matrix_for_many_vectors()) {  // all draws of the vector at once: (S, k) by (m, k)^T
      team.for_range(m, grain(k * rows), [&](Index begin, Index end) {
        kernels().matmul_nt(rows, end - begin, k, b.value, k, a.value + begin * k, k, output_->value + begin, m);
      });
    } else if (!b.per_draw) {  // all draws of the left matrix are rows of one
      team.for_range(rows * m, grain(k * n), [&](Index begin, Index end) {
        kernels().matmul_nn(end - begin, n, k, a.value + begin * k, k, b.value, n, output_->value + begin * n, n);
      });
    } else {
      team.for_range(rows, grain(m * k * n), [&](Index begin, Index end) {
        for (Index s = begin; s < end; ++s) kernels().matmul_nn(m, n, k, a.at(s), k, b.at(s), n, output_->at(s), n);
      });
    }
  }

  void backward(const Sweep& sweep) override {
    if (in(0).active) pull_left(sweep);
    if (in(1).active) pull_right(sweep);
  }

  Index work(Index n_draws) const override { return 2 * output_->rows(n_draws) * shape_.m * shape_.k * shape_.n; }

 private:
  static Index grain(Index work) noexcept { return std::max<Index>(1, 16384 / std::max<Index>(1, work)); }

  bool one_matrix_for_many_vectors() const noexcept { return shape_.n == 1 && !in(0).per_draw && in(1).per_draw; }

  // A-bar (m, k) += C-bar (m, n) B (k, n)^T
  void pull_left(const Sweep& sweep) const {
    const auto [m, k, n] = shape_;
    const Slot &a = in(0), &b = in(1);
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      if (a.per_draw || !output_->per_draw) {
        sweep.team.for_range(rows * m, b.per_draw ? m : grain(k * n), [&](Index begin, Index end) {
          const Index from = first * m + begin;
          kernels().matmul_nt(end - begin, k, n, output_->adjoint + from * n, n, b.at(from / m), n,
                              a.adjoint + from * k, k);
        });
      } else if (one_matrix_for_many_vectors()) {  // (S, m)^T by (S, k)
        sweep.team.for_range(m, grain(k * rows), [&](Index begin, Index end) {
          kernels().matmul_tn(end - begin, k, rows, output_->adjoint_at(first) + begin, m, b.at(first), k,
                              a.adjoint + begin * k, k);
        });
      } else {
        for (Index s = first; s < first + rows; ++s) {
          sweep.team.for_range(m, grain(k * n), [&](Index begin, Index end) {
            kernels().matmul_nt(end - begin, k, n, output_->adjoint_at(s) + begin * n, n, b.at(s), n,
                                a.adjoint + begin * k, k);
          });
        }
      }
    });
  }

  // B-bar (k, n) += A (m, k)^T C-bar (m, n)
  void pull_right(const Sweep& sweep) const {
    const auto [m, k, n] = shape_;
    const Slot &a = in(0), &b = in(1);
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      if (one_matrix_for_many_vectors()) {  // (S, m) by (m, k)
        sweep.team.for_range(k, std::max<Index>(8, grain(m * rows)), [&](Index begin, Index end) {
          kernels().matmul_nn(rows, end - begin, m, output_->adjoint_at(first), m, a.value + begin, k,
                              b.adjoint_at(first) + begin, k);
        });
      } else if (b.per_draw) {
        sweep.team.for_range(rows, grain(m * k * n), [&](Index begin, Index end) {
          for (Index s = first + begin; s < first + end; ++s) {
            kernels().matmul_tn(k, n, m, a.at(s), k, output_->adjoint_at(s), n, b.adjoint_at(s), n);
          }
        });
      } else {  // all draws of the left matrix are rows of one
        sweep.team.for_range(k, std::max<Index>(8, grain(m * n * rows)), [&](Index begin, Index end) {
          kernels().matmul_tn(end - begin, n, m * rows, a.at(first) + begin, k, output_->adjoint_at(first), n,
                              b.adjoint + begin * n, n);
        });
      }
    });
  }

  ProductShape shape_;
};

}  // namespace klqp
