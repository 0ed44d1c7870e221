// MatMul: products of matrices, (m, k) by (k, n), either of which may have a draw axis.
#pragma once

#include "model/node.hpp"

namespace klqp {

struct ProductShape {
  Index m, k, n;
};

// Products of narrow matrices, K and N known: A (m, K) by B (K, N). The register-blocked kernels are made for wide
// ones.
template <int K, int N>
struct Narrow {
  static void product(Index m, const double* a, const double* b, double* c) noexcept {
    for (Index i = 0; i < m; ++i) {
      for (int j = 0; j < N; ++j) {
        double total = a[i * K] * b[j];
        for (int t = 1; t < K; ++t) total += a[i * K + t] * b[t * N + j];
        c[i * N + j] = total;
      }
    }
  }
  // A-bar += C-bar B^T
  static void pull_left(Index m, const double* c, const double* b, double* a) noexcept {
    for (Index i = 0; i < m; ++i) {
      for (int t = 0; t < K; ++t) {
        double total = c[i * N] * b[t * N];
        for (int j = 1; j < N; ++j) total += c[i * N + j] * b[t * N + j];
        a[i * K + t] += total;
      }
    }
  }
  // B-bar += A^T C-bar, four sums each, so that additions need not wait for one another
  static void pull_right(Index m, const double* a, const double* c, double* b) noexcept {
    constexpr int kSums = 4;
    double totals[K * N][kSums] = {};
    Index i = 0;
    for (; i + kSums <= m; i += kSums) {
      for (int t = 0; t < K; ++t) {
        for (int j = 0; j < N; ++j) {
          for (int l = 0; l < kSums; ++l) totals[t * N + j][l] += a[(i + l) * K + t] * c[(i + l) * N + j];
        }
      }
    }
    for (; i < m; ++i) {
      for (int t = 0; t < K; ++t) {
        for (int j = 0; j < N; ++j) totals[t * N + j][0] += a[i * K + t] * c[i * N + j];
      }
    }
    for (int e = 0; e < K * N; ++e) b[e] += (totals[e][0] + totals[e][2]) + (totals[e][1] + totals[e][3]);
  }
};

struct NarrowKernels {
  void (*product)(Index m, const double* a, const double* b, double* c) noexcept = nullptr;
  void (*pull_left)(Index m, const double* c, const double* b, double* a) noexcept = nullptr;
  void (*pull_right)(Index m, const double* a, const double* c, double* b) noexcept = nullptr;
};

// Those of some widths, or none.
inline NarrowKernels narrow_kernels(Index k, Index n) noexcept {
  constexpr auto of = []<int K, int N>() {
    return NarrowKernels{Narrow<K, N>::product, Narrow<K, N>::pull_left, Narrow<K, N>::pull_right};
  };
  static constexpr NarrowKernels kAll[3][4] = {
      {of.operator()<1, 1>(), of.operator()<1, 2>(), of.operator()<1, 3>(), of.operator()<1, 4>()},
      {of.operator()<2, 1>(), of.operator()<2, 2>(), of.operator()<2, 3>(), of.operator()<2, 4>()},
      {of.operator()<3, 1>(), of.operator()<3, 2>(), of.operator()<3, 3>(), of.operator()<3, 4>()},
  };
  return k <= 3 && n <= 4 ? kAll[k - 1][n - 1] : NarrowKernels{};
}

class MatMul final : public Node {
 public:
  MatMul(ProductShape shape, std::vector<Slot*> inputs, Slot* output) : Node(std::move(inputs), output), shape_(shape) {
    require_inputs(2);
    const auto [m, k, n] = shape;
    if (m < 1 || k < 1 || n < 1 || in(0).size != m * k || in(1).size != k * n || output->size != m * n) {
      throw ConfigError("the sizes of a matrix product do not fit together");
    }
    // Where each draw has its own right matrix, the left one is tall and both are narrow.
    if (in(1).per_draw && m >= 8 && !one_matrix_for_many_vectors()) narrow_ = narrow_kernels(k, n);
  }

  void forward(Index n_draws, Team& team) override {
    [[maybe_unused]] const Index m = shape_.m, k = shape_.k, n = shape_.n;
    const Slot &a = in(0), &b = in(1);
    const Index rows = output_->rows(n_draws);
    if (narrow_.product != nullptr) {
      for_pieces(team, 0, rows, m, grain(k * n), [&](Index s, Index begin, Index end) {
        narrow_.product(end - begin, a.at(s) + begin * k, b.at(s), output_->at(s) + begin * n);
      });
      return;
    }
    if (!b.per_draw) {  // all draws of the left matrix are rows of one
      for_blocks(team, rows * m, n, k, [&](const Block& c) {
        for (Index i = c.row; i < c.row + c.rows; ++i) std::fill_n(output_->value + i * n + c.col, c.cols, 0.0);
        kernels().matmul_nn(c.rows, c.cols, k, a.value + c.row * k, k, b.value + c.col, n,
                            output_->value + c.row * n + c.col, n);
      });
      return;
    }
    std::fill_n(output_->value, rows * output_->size, 0.0);
    if (one_matrix_for_many_vectors()) {  // all draws of the vector at once: (S, k) by (m, k)^T
      team.for_range(m, grain(k * rows), [&](Index begin, Index end) {
        kernels().matmul_nt(rows, end - begin, k, b.value, k, a.value + begin * k, k, output_->value + begin, m);
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

  // Rows [row, row + rows) and columns [col, col + cols) of a product.
  struct Block {
    Index row, rows, col, cols;
  };

  // Calls body(block) on the blocks of a product (m, n) of sums of `depth` terms. The kernels arrange the right matrix
  // anew in each call, which only pays for many rows: a product of few is cut along its columns.
  template <class Body>
  static void for_blocks(Team& team, Index m, Index n, Index depth, const Body& body) {
    constexpr Index rows = 64, cols = 96;
    if (m > rows) {
      team.for_range(m, std::max(rows, grain(n * depth)),
                     [&](Index begin, Index end) { body(Block{begin, end - begin, 0, n}); });
    } else {
      const Index wide = (grain(m * depth) + cols - 1) / cols * cols;
      team.for_range(n, wide, [&](Index begin, Index end) { body(Block{0, m, begin, end - begin}); });
    }
  }

  bool one_matrix_for_many_vectors() const noexcept { return shape_.n == 1 && !in(0).per_draw && in(1).per_draw; }

  // A-bar (m, k) += C-bar (m, n) B (k, n)^T
  void pull_left(const Sweep& sweep) const {
    [[maybe_unused]] const Index m = shape_.m, k = shape_.k, n = shape_.n;
    const Slot &a = in(0), &b = in(1);
    sweep.for_rows(output_->per_draw, [&](Index first, Index rows) {
      if (narrow_.pull_left != nullptr && a.per_draw) {
        for_pieces(sweep.team, first, rows, m, grain(k * n), [&](Index s, Index begin, Index end) {
          narrow_.pull_left(end - begin, output_->adjoint_at(s) + begin * n, b.at(s), a.adjoint_at(s) + begin * k);
        });
      } else if (!b.per_draw) {
        for_blocks(sweep.team, rows * m, k, n, [&](const Block& c) {
          const Index from = first * m + c.row;
          kernels().matmul_nt(c.rows, c.cols, n, output_->adjoint + from * n, n, b.value + c.col * n, n,
                              a.adjoint + from * k + c.col, k);
        });
      } else if (a.per_draw) {
        sweep.team.for_range(rows, 1, [&](Index s, Index) {
          kernels().matmul_nt(m, k, n, output_->adjoint_at(first + s), n, b.at(first + s), n, a.adjoint_at(first + s),
                              k);
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
    [[maybe_unused]] const Index m = shape_.m, k = shape_.k, n = shape_.n;
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
            if (narrow_.pull_right != nullptr) {
              narrow_.pull_right(m, a.at(s), output_->adjoint_at(s), b.adjoint_at(s));
              continue;
            }
            kernels().matmul_tn(k, n, m, a.at(s), k, output_->adjoint_at(s), n, b.adjoint_at(s), n);
          }
        });
      } else {  // all draws of the left matrix are rows of one
        for_blocks(sweep.team, k, n, m * rows, [&](const Block& c) {
          kernels().matmul_tn(c.rows, c.cols, m * rows, a.at(first) + c.row, k, output_->adjoint_at(first) + c.col, n,
                              b.adjoint + c.row * n + c.col, n);
        });
      }
    });
  }

  ProductShape shape_;
  NarrowKernels narrow_;
};

}  // namespace klqp
