// Run on native targets: exact zeros, exact optima, equal bits over threads and over stop and resume, rejections.
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/elbo.hpp"
#include "core/estimator/registry.hpp"
#include "core/family/registry.hpp"
#include "core/many.hpp"
#include "core/native_target.hpp"
#include "core/optimizer/registry.hpp"
#include "core/run.hpp"
#include "tests/check.hpp"

namespace {

using klqp::Index;

// Independent Normals with means 1, 2, ... and variance 4; user_data may point to a radius outside of which it is -inf.
int normal_log_density(std::int64_t n, std::int64_t d, std::int64_t order, const double* z, double* logp, double* grad,
                       void* user_data) {
  const double radius = user_data ? *static_cast<double*>(user_data) : std::numeric_limits<double>::infinity();
  for (std::int64_t s = 0; s < n; ++s) {
    logp[s] = 0.0;
    for (std::int64_t i = 0; i < d; ++i) {
      const double r = z[s * d + i] - static_cast<double>(i + 1);
      logp[s] -= std::abs(r) < radius ? r * r / 8.0 : std::numeric_limits<double>::infinity();
      if (order == 1) grad[s * d + i] = -r / 4.0;
    }
  }
  return 0;
}

struct Setup {
  std::string family = "mean_field";
  std::string estimator = "reparameterised";
  klqp::Entropy entropy = klqp::Entropy::sticking;
  Index dim = 3;
  Index n_draws = 4;
  int n_threads = 1;
  double* radius = nullptr;
  double start_scale = 0.5;
};

klqp::Run make_run(const Setup& setup) {
  klqp::RunParts parts;
  const Index rank = setup.family == "low_rank" ? 2 : 0, components = setup.family.ends_with("mixture") ? 3 : 0;
  auto family = klqp::make_family(setup.family, {setup.dim, rank, klqp::ScaleLink::exp, 0.0, components});
  klqp_logdensity_v1 function{reinterpret_cast<void*>(&normal_log_density), setup.radius, KLQP_REENTRANT};
  auto target = std::make_shared<klqp::NativeTarget>(function, setup.dim);
  klqp::NoiseConfig noise;
  noise.seed = 7;
  noise.n_draws = setup.n_draws;
  noise.dim = family->noise_dim();
  parts.noise = std::make_unique<klqp::Noise>(noise);
  auto estimator =
      klqp::make_estimator(setup.estimator, {setup.entropy, klqp::Baseline::optimal}, *family, *parts.noise);
  parts.optimizer = klqp::make_optimizer("adam", {{"beta1", 0.9}, {"beta2", 0.999}, {"epsilon", 1e-8}});
  std::vector<double> loc(static_cast<std::size_t>(setup.dim), 0.0), scale(loc.size(), setup.start_scale);
  std::vector<double> params(static_cast<std::size_t>(family->n_params()));
  family->start(loc, scale, 3, params);
  parts.objective =
      std::make_unique<klqp::Elbo>(std::move(family), std::move(target), std::move(estimator), setup.n_draws, false);
  klqp::RunConfig config;
  config.n_threads = setup.n_threads;
  return klqp::Run(std::move(parts), config, params);
}

std::vector<double> rates(std::size_t n) {
  std::vector<double> out(n);
  for (std::size_t t = 0; t < n; ++t) out[t] = 0.1 * std::pow(1e-4, static_cast<double>(t) / static_cast<double>(n));
  return out;
}

void test_reaches_the_exact_posterior() {
  for (const char* family : {"mean_field", "full_rank", "low_rank"}) {
    Setup setup;
    setup.family = family;
    klqp::Run run = make_run(setup);
    CHECK(run.until(rates(4000), {}, {}).empty());
    const auto member = klqp::make_family(family, {3, 2, klqp::ScaleLink::exp});
    klqp::Team serial(1);
    member->prepare(run.params(), serial);
    std::vector<double> mean(3), sd(3);
    member->mean(mean);
    member->stddev(sd);
    for (int i = 0; i < 3; ++i) {
      CHECK_CLOSE(mean[static_cast<std::size_t>(i)], i + 1.0, 2e-3);
      CHECK_CLOSE(sd[static_cast<std::size_t>(i)], 2.0, 2e-3);
    }
  }
}

void test_same_bits_for_any_number_of_threads() {
  const char* const families[] = {"mean_field",           "full_rank",         "low_rank", "student_t", "mixture",
                                  "mean_field_student_t", "mean_field_mixture"};
  for (const std::string family : families) {
    Setup setup;
    setup.family = family;
    const bool mixture = family.ends_with("mixture"), normal = !mixture && !family.ends_with("student_t");
    setup.dim = normal ? 300 : 40;
    setup.n_draws = 64;
    if (mixture) {
      setup.estimator = "score";
      setup.entropy = klqp::Entropy::monte_carlo;
    }
    klqp::Run one = make_run(setup);
    one.until(rates(60), {}, {});
    for (const int n_threads : {2, 3, 8}) {
      setup.n_threads = n_threads;
      klqp::Run many = make_run(setup);
      many.until(rates(60), {}, {});
      CHECK(many.params() == one.params());
      CHECK(many.trace().loss() == one.trace().loss());
    }
  }
}

void test_same_bits_after_a_restore() {
  for (const auto entropy : {klqp::Entropy::sticking, klqp::Entropy::adaptive}) {
    Setup setup;
    setup.entropy = entropy;
    const std::vector<double> all = rates(100);
    klqp::Run whole = make_run(setup);
    whole.until(all, {}, {});
    klqp::Run first = make_run(setup);
    first.until({all.data(), 37}, {}, {});
    klqp::Run second = make_run(setup);
    second.restore(first.snapshot());
    second.until({all.data() + 37, 63}, {}, {});
    CHECK(second.params() == whole.params());
    CHECK(second.trace().loss() == whole.trace().loss());
  }
}

void test_a_snapshot_of_another_run_changes_nothing() {
  klqp::Run run = make_run({});
  const std::vector<double> before = run.params();
  Setup other;
  other.dim = 5;
  bool refused = false;
  try {
    run.restore(make_run(other).snapshot());
  } catch (const klqp::ConfigError&) {
    refused = true;
  }
  CHECK(refused);
  CHECK(run.params() == before);
}

void test_rejected_draws() {
  double radius = 5.0;
  Setup setup;
  setup.radius = &radius;
  setup.start_scale = 4.0;  // many draws outside
  klqp::Run run = make_run(setup);
  run.until(rates(500), {}, {});
  CHECK(run.rejections().minus_inf > 0.0);
  CHECK(run.rejections().invalid == 0.0);
  CHECK(std::isfinite(run.trace().loss().back()));

  double nowhere = 0.0;
  setup.radius = &nowhere;
  klqp::Run hopeless = make_run(setup);
  bool stopped = false;
  try {
    hopeless.until(rates(5), {}, {});
  } catch (const klqp::TargetError&) {
    stopped = true;
  }
  CHECK(stopped);
  CHECK(hopeless.step_count() == 0);
}

void test_score_needs_values_only() {
  Setup setup;
  setup.estimator = "score";
  setup.entropy = klqp::Entropy::monte_carlo;
  setup.n_draws = 16;
  klqp::Run run = make_run(setup);
  run.until(rates(3000), {}, {});
  for (std::size_t i = 0; i < 3; ++i) CHECK_CLOSE(run.params()[i], static_cast<double>(i + 1), 0.02);
}

// Problems by adaptive estimators, averaged, which differ in their starts and seeds; the third begins where nothing is
// finite.
void test_many_problems_are_runs_of_their_own_on_any_number_of_threads() {
  constexpr std::size_t kProblems = 12, kBad = 2;
  double everywhere = std::numeric_limits<double>::infinity(), nowhere = 0.0;
  Setup setup;
  setup.entropy = klqp::Entropy::adaptive;
  const std::vector<double> all = rates(80), start = make_run(setup).params();
  const auto n_params = static_cast<Index>(start.size());
  std::vector<double> starts;
  std::vector<std::uint64_t> seeds;
  std::vector<Index> numbers;
  for (std::size_t b = 0; b < kProblems; ++b) {
    for (std::size_t i = 0; i < start.size(); ++i) starts.push_back(start[i] + 0.1 * static_cast<double>(b));
    seeds.push_back(100 + b);
    numbers.push_back(static_cast<Index>(b));
  }
  for (const int n_threads : {1, 2, 3, 8}) {
    std::vector<double> radii(8);
    std::vector<klqp::Run> runs;
    klqp::Form form;
    for (std::size_t t = 0; t < radii.size(); ++t) {
      setup.radius = &radii[t];
      runs.push_back(make_run(setup));
    }
    for (std::size_t t = 0; t < radii.size(); ++t) {
      form.workspaces.push_back({&runs[t], [&radii, t, everywhere, nowhere](Index b) {
                                   radii[t] = b == static_cast<Index>(kBad) ? nowhere : everywhere;
                                 }});
    }
    form.problems = numbers;
    form.starts = {starts.data(), static_cast<Index>(kProblems), n_params};
    std::vector<double> params(starts.size());
    form.params = {params.data(), static_cast<Index>(kProblems), n_params};
    std::vector<klqp::Form> forms{form};
    klqp::ManyResults results(kProblems);
    const klqp::StopRules rules;
    klqp::run_many(forms, {all, rules, seeds, {}, n_threads}, results);
    for (std::size_t b = 0; b < kProblems; ++b) {
      const klqp::ConstSpan solution{params.data() + b * start.size(), start.size()};
      CHECK(results.outcomes[b].status == (b == kBad ? "failed" : "steps"));
      CHECK(results.outcomes[b].message.empty() == (b != kBad));
      CHECK(std::isnan(solution[0]) == (b == kBad));
      if (b == kBad) continue;
      setup.radius = &everywhere;
      klqp::Run alone = make_run(setup);
      alone.restart({starts.data() + b * start.size(), start.size()}, seeds[b]);
      alone.until(all, rules, {});
      CHECK(std::equal(solution.begin(), solution.end(), alone.params().begin()));
      CHECK(results.outcomes[b].loss == alone.trace().loss().back());
      CHECK(results.outcomes[b].n_steps == 80);
    }
  }
}

}  // namespace

int main() {
  test_reaches_the_exact_posterior();
  test_same_bits_for_any_number_of_threads();
  test_same_bits_after_a_restore();
  test_a_snapshot_of_another_run_changes_nothing();
  test_rejected_draws();
  test_score_needs_values_only();
  test_many_problems_are_runs_of_their_own_on_any_number_of_threads();
  return klqp_test::summary();
}
