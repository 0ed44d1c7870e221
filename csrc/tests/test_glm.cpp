// Generalised linear models: products of every table at every edge of the tiles, equal bits over threads, no allocation
// in a step.
#include <cmath>
#include <memory>
#include <vector>

#include "model/fused/glm.hpp"
#include "model/fused/likelihoods/registry.hpp"
#include "model/program.hpp"
#include "tests/check.hpp"
#include "tests/count_allocations.hpp"

namespace {

using klqp::Index;
using klqp::Slot;
using klqp_test::n_allocations;

template <class T>
std::vector<T> numbers(Index n, double shift) {
  std::vector<T> out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<T>(std::fmod(0.618 * static_cast<double>(i + 1) + shift, 1.0) - 0.5);
  }
  return out;
}

// Arrays have exactly the room they need, so that a sanitizer sees every step beside them.
template <class T>
void check_products(const klqp::DesignKernels<T>& kernels, Index n, Index d, Index m, double tolerance) {
  const auto x = numbers<T>(n * d, 0.1), residual = numbers<T>(m * n, 0.3);
  const auto coef = numbers<double>(m * d, 0.2);
  std::vector<double> eta(static_cast<std::size_t>(m * n)), grad(static_cast<std::size_t>(m * d));
  std::vector<T> panel(static_cast<std::size_t>(kernels.panel_size(m, d)));
  kernels.pack(m, d, coef.data(), panel.data());
  kernels.predict(n, d, m, x.data(), d, panel.data(), eta.data(), n);
  kernels.gradient(n, d, m, residual.data(), n, x.data(), d, 0, grad.data(), d);
  const auto at = [](const auto& values, Index i) { return static_cast<double>(values[static_cast<std::size_t>(i)]); };
  double error = 0.0;
  for (Index r = 0; r < m; ++r) {
    for (Index i = 0; i < n; ++i) {
      double sum = 0.0;
      for (Index j = 0; j < d; ++j) sum += at(x, i * d + j) * at(coef, r * d + j);
      error = std::max(error, std::fabs(sum - at(eta, r * n + i)));
    }
    for (Index j = 0; j < d; ++j) {
      double sum = 0.0;
      for (Index i = 0; i < n; ++i) sum += at(x, i * d + j) * at(residual, r * n + i);
      error = std::max(error, std::fabs(sum - at(grad, r * d + j)));
    }
  }
  CHECK(error < tolerance);
}

void test_products() {
  for (const klqp::KernelTable* table : klqp::available_kernels()) {
    for (const Index n : {1, 3, 8, 19}) {
      for (Index d = 1; d < 40; d += d < 18 ? 1 : 7) {
        for (const Index m : {1, 2, 3, 4, 7, 8, 13, 25, 40}) {
          check_products(table->design, n, d, m, 1e-14);
          check_products(table->design_f32, n, d, m, 1e-5);
        }
      }
    }
  }
}

// A logistic regression; value and gradient of a program with n_threads, after a first step without counting.
std::vector<double> step(int n_threads, long* allocations) {
  constexpr Index n = 3000, d = 7, n_draws = 5;
  const auto x = numbers<double>(n * d, 0.4);
  std::vector<double> y = numbers<double>(n, 0.5);
  for (double& each : y) each = each > 0.0 ? 1.0 : 0.0;
  klqp::Program program;
  klqp::PredictorTerms terms;
  terms.n = n;
  Slot* const coef = program.add_noise(0, d);
  Slot* const intercept = program.add_parameter(0, 1);
  const auto design =
      std::make_shared<klqp::DenseMatrix<double>>(x.data(), n, d, klqp::DenseMatrix<double>::Layout{d, 1}, nullptr);
  terms.matrices.push_back({design, coef});
  terms.added.push_back(intercept);
  klqp::GlmData data;
  data.n = n;
  data.value = program.add_data(y);
  std::vector<Slot*> in = terms.slots();
  in.push_back(const_cast<Slot*>(data.value));
  auto likelihood = klqp::find_row(klqp::kGlmLikelihoods, "likelihood", "bernoulli_logits")(data);
  Slot* const out = program.add_output(1, in);
  auto node =
      std::make_unique<klqp::Glm>(std::move(terms), std::move(likelihood), std::vector<Slot*>{}, nullptr, in, out);
  node->expect_backward();
  program.add_node(std::move(node));
  program.allocate(n_draws);
  const klqp::SweepPlan plan = program.plan({out});
  const auto noise = numbers<double>(n_draws * d, 0.6);
  const std::vector<double> params{0.3};
  std::vector<double> grad(1);
  klqp::Team team(n_threads);
  const std::vector<klqp::DrawRange> draws{{0, 2}, {3, n_draws}};
  const auto run = [&] {
    program.forward(params, {noise.data(), n_draws, d}, team);
    program.begin_sweep(plan, grad);
    std::fill_n(out->adjoint, n_draws, 1.0);
    klqp::Program::backward(plan, {draws, team});
  };
  run();
  const long before = n_allocations.load();
  grad[0] = 0.0;
  run();
  if (allocations != nullptr) *allocations = n_allocations.load() - before;
  std::vector<double> result(out->value, out->value + n_draws);
  result.push_back(grad[0]);
  double wanted = 0.0;
  for (const Index s : {0, 1, 3, 4}) {
    for (Index i = 0; i < n; ++i) {
      double eta = 0.3;
      for (Index j = 0; j < d; ++j) {
        eta += x[static_cast<std::size_t>(i * d + j)] * noise[static_cast<std::size_t>(s * d + j)];
      }
      wanted += y[static_cast<std::size_t>(i)] - 1.0 / (1.0 + std::exp(-eta));
    }
  }
  CHECK_CLOSE(grad[0], wanted, 1e-11);
  return result;
}

void test_threads() {
  long allocations = -1;
  const std::vector<double> one = step(1, &allocations);
  CHECK(allocations == 0);
  for (const int n_threads : {2, 3, 8}) CHECK(step(n_threads, nullptr) == one);
}

}  // namespace

int main() {
  test_products();
  test_threads();
  return klqp_test::summary();
}
