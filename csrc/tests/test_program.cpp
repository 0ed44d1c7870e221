// Programs and their objective: equal bits over threads, no allocation in a step, rejected draws, exact gradients.
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "model/nodes/density.hpp"
#include "model/nodes/registry.hpp"
#include "model/objective.hpp"
#include "tests/check.hpp"
#include "tests/count_allocations.hpp"

namespace {

using klqp::DrawRange;
using klqp::Entropy;
using klqp::Index;
using klqp::Program;
using klqp::Slot;
using klqp::Team;
using klqp_test::n_allocations;

std::vector<double> numbers(Index n, double from, double to) {
  std::vector<double> out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double share = std::fmod(0.618 * static_cast<double>(i + 1), 1.0);
    out[i] = from + (to - from) * share;
  }
  return out;
}

Slot* add(Program& program, const std::string& name, std::vector<Slot*> in, Index size,
          std::map<std::string, std::vector<Index>> integers = {}) {
  Slot* const out = program.add_output(size, in);
  program.add_node(klqp::make_node(name, {{std::move(integers), {{"constant", {0.5}}}}, in, out}));
  return out;
}

Slot* density(Program& program, const char* name, std::vector<Slot*> in, Index n, bool log_q = false,
              bool summed = true) {
  const klqp::DensityKernel* const kernel = klqp::find_density(klqp::kernels(), name);
  Slot* const out = program.add_output(summed ? 1 : n, in);
  program.add_node(
      std::make_unique<klqp::Density>(*kernel, n, klqp::Density::Options{summed, false, log_q}, std::move(in), out));
  return out;
}

Slot* draw(Program& program, Slot* loc, Slot* scale, Slot* noise) {
  Slot* const out = program.add_output(noise->size, {loc, scale, noise});
  program.add_node(std::make_unique<klqp::LocationScaleDraw>(std::vector<Slot*>{loc, scale, noise}, out));
  return out;
}

// --- programs --------------------------------------------------------------------------------------------------

// All kinds of nodes on n elements, from 2 n parameters and n numbers of noise.
struct Everything {
  explicit Everything(Index size) : n(size) {
    Slot* const loc = program.add_parameter(0, n);
    Slot* const scale = add(program, "softplus", {program.add_parameter(n, n)}, n);
    Slot* const z = draw(program, loc, scale, program.add_noise(0, n));
    std::vector<double> index = numbers(n, 0.0, static_cast<double>(n));
    for (double& i : index) i = std::floor(i);
    data = program.add_data(index);
    Slot* const gathered = add(program, "gather", {z, data}, n, {{"width", {1}}});
    Slot* const mixed = add(program, "divide", {add(program, "multiply", {z, gathered}, n), scale}, n);
    Slot* const shifted = add(program, "subtract", {add(program, "add", {mixed, loc}, n), z}, n);
    Slot* const soft = add(program, "log_softmax", {shifted}, n, {{"outer", {n / 5}}, {"n", {5}}, {"inner", {1}}});
    Slot* const most = add(program, "logsumexp", {soft}, n / 5, {{"outer", {1}}, {"n", {5}}, {"inner", {n / 5}}});
    Slot* const a = program.add_data(numbers(12 * n, -0.1, 0.1));
    Slot* const product = add(program, "matmul", {a, z}, 12, {{"m", {12}}, {"k", {n}}, {"n", {1}}});
    Slot* const wide = add(program, "matmul", {z, program.add_data(numbers(35, -1, 1))}, n / 5 * 7,
                           {{"m", {n / 5}}, {"k", {5}}, {"n", {7}}});
    Slot* const joined = add(program, "concatenate", {product, most, wide}, 12 + n / 5 * 8, {{"outer", {1}}});
    Slot* const part = add(program, "slice", {joined}, joined->size - 3, {{"begin", {3}}});
    Slot* const total = add(program, "sum", {add(program, "tanh", {part}, part->size)}, 1,
                            {{"outer", {1}}, {"n", {part->size}}, {"inner", {1}}});
    Slot* const prior = density(program, "normal", {z, loc, scale}, n);
    out = add(program, "add", {total, prior}, 1);
  }

  // The values of the output, then the gradient, with all draws or those of the ranges.
  std::vector<double> run(Index n_draws, int n_threads, const std::vector<DrawRange>& ranges) {
    std::vector<double> params = numbers(2 * n, -1.0, 1.0), noise = numbers(n_draws * n, -2.0, 2.0);
    std::vector<double> grad(params.size(), 0.0);
    if (program.n_draws() != n_draws) program.allocate(n_draws);
    Team team(n_threads);
    program.forward(params, {noise.data(), n_draws, n}, team);
    const klqp::SweepPlan plan = program.plan({out});
    program.begin_sweep(plan, grad);
    for (Index s = 0; s < n_draws; ++s) *out->adjoint_at(s) = 1.0 / static_cast<double>(n_draws);
    Program::backward(plan, {ranges, team});
    grad.insert(grad.end(), out->value, out->value + n_draws);
    return grad;
  }

  Index n;
  Program program;
  Slot* data = nullptr;
  Slot* out = nullptr;
};

void test_same_bits_for_any_number_of_threads() {
  for (const auto& [n, n_draws] : {std::pair<Index, Index>{5, 3}, {40, 1000}, {300, 7}, {30000, 1}, {6000, 10}}) {
    Everything program(n);
    const std::vector<DrawRange> all{{0, n_draws}};
    const std::vector<double> one = program.run(n_draws, 1, all);
    for (const double value : one) CHECK(std::isfinite(value));
    for (const int n_threads : {2, 3, 8}) CHECK(program.run(n_draws, n_threads, all) == one);
  }
}

// A draw whose values are NaN leaves no trace where it does not take part.
void test_rejected_draws_leave_no_trace() {
  Everything program(10);
  const Index n_draws = 6;
  const std::vector<double> kept = program.run(n_draws, 1, {{0, 2}, {3, 6}});
  std::vector<double> params = numbers(20, -1.0, 1.0), noise = numbers(n_draws * 10, -2.0, 2.0), grad(20, 0.0);
  for (std::size_t i = 20; i < 30; ++i) noise[i] = std::numeric_limits<double>::quiet_NaN();
  Team team(1);
  program.program.forward(params, {noise.data(), n_draws, 10}, team);
  CHECK(std::isnan(*program.out->at(2)));
  const klqp::SweepPlan plan = program.program.plan({program.out});
  program.program.begin_sweep(plan, grad);
  for (Index s = 0; s < n_draws; ++s) *program.out->adjoint_at(s) = 1.0 / static_cast<double>(n_draws);
  const std::vector<DrawRange> ranges{{0, 2}, {3, 6}};
  Program::backward(plan, {ranges, team});
  for (std::size_t i = 0; i < 20; ++i) CHECK_CLOSE(grad[i], kept[i], 1e-13);
}

void test_data_that_are_refused_leave_the_old_ones() {
  Everything program(10);
  const std::vector<DrawRange> all{{0, 2}};
  const std::vector<double> before = program.run(2, 1, all);
  int refused = 0;
  for (const auto& bad : {std::vector<double>(10, 10.0), std::vector<double>(10, 0.5), std::vector<double>(3, 0.0)}) {
    try {
      program.program.set_data(program.data, bad);
    } catch (const klqp::ConfigError&) {
      ++refused;
    }
    CHECK(program.run(2, 1, all) == before);
  }
  CHECK(refused == 3);
  program.program.set_data(program.data, std::vector<double>(10, 1.0));
  CHECK(program.run(2, 1, all) != before);
}

// --- the objective ---------------------------------------------------------------------------------------------

// z ~ N(1, 2^2) (dim), y | z ~ N(z, 1) with y = 0.5, or none; q = N(loc, scale): parameters loc (dim), scale (dim).
struct Conjugate {
  Entropy entropy = Entropy::sticking;
  bool score = false;
  bool likelihood = true;
  Index dim = 3;
  Index n_draws = 4;
  klqp::Baseline baseline = klqp::Baseline::mean;
  bool plates = false;  // score: each element of z has its own elements of the terms

  std::unique_ptr<klqp::ModelObjective> make(const klqp::Noise& noise) const {
    auto model = std::make_shared<klqp::Model>();
    Program& program = model->program;
    Slot* const loc = program.add_parameter(0, dim);
    Slot* const scale = program.add_parameter(dim, dim);
    Slot* const z = draw(program, loc, scale, program.add_noise(0, dim));
    klqp::Factor factor{"z", entropy, z, nullptr, 0, false, nullptr, {}};
    if (score) factor.scores = density(program, "normal", {z, loc, scale}, dim, false, false);
    const auto add_term = [&](klqp::TermKind kind, const std::vector<Slot*>& in, int of) {
      const bool log_q = kind == klqp::TermKind::log_q;
      factor.scored.push_back({model->terms.size(), density(program, "normal", in, dim, log_q, false), blanket()});
      model->terms.push_back({"z", kind, density(program, "normal", in, dim, log_q), of});
    };
    add_term(klqp::TermKind::prior, {z, program.add_data({one.data(), 1}), program.add_data({two, 1})}, -1);
    if (likelihood) {
      add_term(klqp::TermKind::likelihood, {program.add_data({half, 1}), z, program.add_data({one.data(), 1})}, -1);
    }
    add_term(klqp::TermKind::log_q, {z, loc, scale}, 0);
    Slot* const logs = add(program, "log", {scale}, dim);
    Slot* const total = add(program, "sum", {logs}, 1, {{"outer", {1}}, {"n", {dim}}, {"inner", {1}}});
    model->terms.push_back({"z", klqp::TermKind::entropy, total, 0});
    model->factors.push_back(factor);
    return std::make_unique<klqp::ModelObjective>(model, klqp::ModelOptions{baseline, {}}, noise, 2 * dim);
  }

  klqp::Blanket blanket() const {
    klqp::Blanket out;
    if (!plates) return out;
    for (Index i = 0; i <= dim; ++i) {
      out.begin.push_back(i);
      if (i == dim) break;
      out.block_of.push_back(i);
      out.blocks.push_back(i);
    }
    return out;
  }

  klqp::Noise noise() const {
    klqp::NoiseConfig config;
    config.seed = 5;
    config.n_draws = n_draws;
    config.dim = dim;
    return klqp::Noise(config);
  }

  std::vector<double> one = {1.0};
  inline static const double two[1] = {2.0}, half[1] = {0.5};
};

struct Step {
  std::vector<double> grad, e;
};

Step step(const Conjugate& setup, klqp::ModelObjective& objective, const klqp::Noise& noise,
          const std::vector<double>& params, std::uint32_t t, Team& team) {
  Step out{std::vector<double>(params.size(), 0.0),
           std::vector<double>(static_cast<std::size_t>(setup.n_draws * setup.dim))};
  noise.fill(t, {out.e.data(), setup.n_draws, setup.dim}, team);
  objective.evaluate(params, {out.e.data(), setup.n_draws, setup.dim}, team);
  const std::vector<double> weights(static_cast<std::size_t>(setup.n_draws), 1.0 / static_cast<double>(setup.n_draws));
  objective.add_gradient(weights, noise, out.grad, team);
  return out;
}

const std::vector<double> kParams = {0.3, -0.2, 0.9, 0.7, 1.4, 0.5};

// The draws' gradient of log p is known: (1 - z) / 4 + (0.5 - z).
void test_pathwise_gradients_draw_by_draw() {
  for (const Entropy entropy : {Entropy::monte_carlo, Entropy::closed_form, Entropy::sticking}) {
    Conjugate setup;
    setup.entropy = entropy;
    const klqp::Noise noise = setup.noise();
    const auto objective = setup.make(noise);
    Team team(1);
    const Step got = step(setup, *objective, noise, kParams, 3, team);
    for (Index i = 0; i < setup.dim; ++i) {
      const double loc = kParams[static_cast<std::size_t>(i)], scale = kParams[static_cast<std::size_t>(setup.dim + i)];
      double to_loc = 0.0, to_scale = entropy == Entropy::sticking ? 0.0 : 1.0 / scale;
      for (Index s = 0; s < setup.n_draws; ++s) {
        const double e = got.e[static_cast<std::size_t>(s * setup.dim + i)], z = loc + scale * e;
        const double g = (1.0 - z) / 4.0 + (0.5 - z) + (entropy == Entropy::sticking ? e / scale : 0.0);
        to_loc += g / static_cast<double>(setup.n_draws);
        to_scale += g * e / static_cast<double>(setup.n_draws);
      }
      CHECK_CLOSE(got.grad[static_cast<std::size_t>(i)], to_loc, 1e-13);
      CHECK_CLOSE(got.grad[static_cast<std::size_t>(setup.dim + i)], to_scale, 1e-13);
    }
  }
}

// Means over many steps against the exact gradient, within 5 standard errors.
void test_expected_gradients() {
  struct Treatment {
    Entropy entropy;
    bool score;
    klqp::Baseline baseline;
    bool plates;
    Index n_draws;
  };
  const auto mean = klqp::Baseline::mean, optimal = klqp::Baseline::optimal, running = klqp::Baseline::running;
  for (const Treatment& treatment : {Treatment{Entropy::adaptive, false, mean, false, 4},
                                     {Entropy::monte_carlo, true, mean, false, 4},
                                     {Entropy::closed_form, true, mean, false, 4},
                                     {Entropy::monte_carlo, true, optimal, false, 4},
                                     {Entropy::monte_carlo, true, mean, true, 4},
                                     {Entropy::closed_form, true, mean, true, 2},
                                     {Entropy::monte_carlo, true, optimal, true, 4},
                                     {Entropy::monte_carlo, true, running, true, 1},
                                     {Entropy::monte_carlo, true, running, false, 4}}) {
    Conjugate setup;
    setup.entropy = treatment.entropy;
    setup.score = treatment.score;
    setup.baseline = treatment.baseline;
    setup.plates = treatment.plates;
    setup.n_draws = treatment.n_draws;
    const klqp::Noise noise = setup.noise();
    const auto objective = setup.make(noise);
    Team team(1);
    const int n = 20000;
    // The first step of a running baseline only teaches it.
    if (treatment.baseline == running) step(setup, *objective, noise, kParams, 1u << 20, team);
    std::vector<double> sum(6, 0.0), squares(6, 0.0);
    for (int t = 0; t < n; ++t) {
      const Step got = step(setup, *objective, noise, kParams, static_cast<std::uint32_t>(t), team);
      for (std::size_t i = 0; i < 6; ++i) {
        sum[i] += got.grad[i];
        squares[i] += got.grad[i] * got.grad[i];
      }
    }
    for (std::size_t i = 0; i < 6; ++i) {
      const double loc = kParams[i % 3], scale = kParams[i % 3 + 3];
      const double exact = i < 3 ? (1.0 - loc) / 4.0 + (0.5 - loc) : 1.0 / scale - 1.25 * scale;
      const double average = sum[i] / n, error = std::sqrt((squares[i] / n - average * average) / n);
      CHECK(std::fabs(average - exact) <= 5.0 * error);
    }
  }
}

// Elements of other events only add noise: without them less of it is left.
void test_plates_take_variance_away() {
  double variances[2] = {0.0, 0.0};
  for (const bool plates : {false, true}) {
    Conjugate setup;
    setup.entropy = Entropy::monte_carlo;
    setup.score = true;
    setup.plates = plates;
    setup.dim = 400;
    const klqp::Noise noise = setup.noise();
    const auto objective = setup.make(noise);
    Team team(1);
    const std::vector<double> params(800, 0.5);
    const int n = 100;
    std::vector<double> sum(800, 0.0), squares(800, 0.0);
    for (int t = 0; t < n; ++t) {
      const Step got = step(setup, *objective, noise, params, static_cast<std::uint32_t>(t), team);
      for (std::size_t i = 0; i < 800; ++i) {
        sum[i] += got.grad[i] / n;
        squares[i] += got.grad[i] * got.grad[i] / n;
      }
    }
    for (std::size_t i = 0; i < 800; ++i) variances[plates] += squares[i] - sum[i] * sum[i];
  }
  CHECK(variances[1] < 0.1 * variances[0]);
}

void test_sticking_is_zero_where_q_is_p() {
  for (const Index n_draws : {1, 2, 4}) {
    for (const Index dim : {1, 3, 300}) {
      Conjugate setup;
      setup.likelihood = false;
      setup.n_draws = n_draws;
      setup.dim = dim;
      const klqp::Noise noise = setup.noise();
      const auto objective = setup.make(noise);
      std::vector<double> params(static_cast<std::size_t>(2 * dim), 1.0);
      std::fill(params.begin() + dim, params.end(), 2.0);
      Team team(1);
      for (std::uint32_t t = 0; t < 5; ++t) {
        for (const double g : step(setup, *objective, noise, params, t, team).grad) CHECK(g == 0.0);
      }
    }
  }
}

void test_rejected_draws_of_an_objective() {
  for (const bool score : {false, true}) {
    Conjugate setup;
    setup.score = score;
    setup.entropy = score ? Entropy::monte_carlo : Entropy::sticking;
    const klqp::Noise noise = setup.noise();
    const auto objective = setup.make(noise);
    Team team(1);
    std::vector<double> e(12), grad(6, 0.0);
    noise.fill(0, {e.data(), 4, 3}, team);
    e[4] = std::numeric_limits<double>::quiet_NaN();
    objective->evaluate(kParams, {e.data(), 4, 3}, team);
    CHECK(std::isnan(objective->log_p()[1]));
    CHECK(objective->culprit(1) == 0);
    const std::vector<double> weights = {1.0 / 3, 0.0, 1.0 / 3, 1.0 / 3};
    const klqp::Estimate estimate = objective->add_gradient(weights, noise, grad, team);
    for (const double g : grad) CHECK(std::isfinite(g));
    CHECK(std::isfinite(estimate.elbo));
    CHECK(std::isfinite(estimate.std_error));
  }
}

void test_a_step_allocates_nothing() {
  for (const auto& [entropy, score, baseline] : {std::tuple{Entropy::sticking, false, klqp::Baseline::mean},
                                                 {Entropy::closed_form, false, klqp::Baseline::mean},
                                                 {Entropy::adaptive, false, klqp::Baseline::mean},
                                                 {Entropy::monte_carlo, true, klqp::Baseline::mean},
                                                 {Entropy::monte_carlo, true, klqp::Baseline::running},
                                                 {Entropy::monte_carlo, true, klqp::Baseline::optimal}}) {
    Conjugate setup;
    setup.entropy = entropy;
    setup.score = score;
    setup.baseline = baseline;
    setup.dim = 300;
    const klqp::Noise noise = setup.noise();
    const auto objective = setup.make(noise);
    std::vector<double> params(600, 0.7), e(1200), grad(600, 0.0);
    const std::vector<double> weights = {0.5, 0.0, 0.25, 0.25};
    Team team(1);
    long before = 0;
    for (std::uint32_t t = 0; t < 3; ++t) {
      if (t == 1) before = n_allocations.load();  // the first step may size its workspace
      noise.fill(t, {e.data(), 4, 300}, team);
      objective->evaluate(params, {e.data(), 4, 300}, team);
      objective->add_gradient(weights, noise, grad, team);
    }
    CHECK(n_allocations.load() == before);
  }
  Everything program(40);
  program.run(4, 1, {{0, 4}});
  std::vector<double> params = numbers(80, -1.0, 1.0), noise = numbers(160, -2.0, 2.0), grad(80, 0.0);
  const klqp::SweepPlan plan = program.program.plan({program.out});
  const std::vector<DrawRange> all{{0, 4}};
  Team team(1);
  const long before = n_allocations.load();
  program.program.forward(params, {noise.data(), 4, 40}, team);
  program.program.begin_sweep(plan, grad);
  Program::backward(plan, {all, team});
  CHECK(n_allocations.load() == before);
}

}  // namespace

int main() {
  test_same_bits_for_any_number_of_threads();
  test_rejected_draws_leave_no_trace();
  test_data_that_are_refused_leave_the_old_ones();
  test_pathwise_gradients_draw_by_draw();
  test_expected_gradients();
  test_plates_take_variance_away();
  test_sticking_is_zero_where_q_is_p();
  test_rejected_draws_of_an_objective();
  test_a_step_allocates_nothing();
  return klqp_test::summary();
}
