// The likelihoods of generalised linear models, by name.
#pragma once

#include <algorithm>
#include <memory>

#include "core/registry.hpp"
#include "model/fused/likelihoods/categorical.hpp"
#include "model/fused/likelihoods/counts.hpp"
#include "model/fused/likelihoods/elementwise.hpp"
#include "model/fused/likelihoods/gamma.hpp"
#include "model/fused/likelihoods/normal.hpp"
#include "model/fused/likelihoods/ordered_logistic.hpp"
#include "model/fused/likelihoods/student_t.hpp"
#include "model/fused/likelihoods/trials.hpp"

namespace klqp {

using GlmLikelihoodFactory = std::unique_ptr<GlmLikelihood> (*)(GlmData data);

template <class Likelihood>
std::unique_ptr<GlmLikelihood> make_glm_likelihood(GlmData data) {
  return std::make_unique<Likelihood>(std::move(data));
}

// The loop for parameters that are single numbers; else the elementwise density of the same name, eta in place `Eta` of
// its arguments.
template <class Likelihood, std::size_t Eta>
std::unique_ptr<GlmLikelihood> make_for_single_parameters(const char* density, GlmData data) {
  const bool single = std::all_of(data.parameters.begin(), data.parameters.end(),
                                  [](const Slot* parameter) { return parameter->size == 1; });
  if (single) return std::make_unique<Likelihood>(std::move(data));
  return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{density, Eta}, std::move(data));
}

inline constexpr Row<GlmLikelihoodFactory> kGlmLikelihoods[] = {
    {"normal", [](GlmData data) { return make_for_single_parameters<NormalRows, 1>("normal", std::move(data)); }},
    {"student_t",
     [](GlmData data) { return make_for_single_parameters<StudentTRows, 2>("student_t", std::move(data)); }},
    {"bernoulli_logits", make_glm_likelihood<BernoulliRows>},
    {"binomial_logits", make_glm_likelihood<BinomialRows>},
    {"poisson_log", make_glm_likelihood<PoissonRows>},
    {"negative_binomial_logits",
     [](GlmData data) {
       return make_for_single_parameters<NegativeBinomialRows, 2>("negative_binomial_logits", std::move(data));
     }},
    {"gamma_log", make_glm_likelihood<GammaRows>},
    {"categorical_logits", make_glm_likelihood<CategoricalLogitsLikelihood>},
    {"ordered_logistic", make_glm_likelihood<OrderedLogisticLikelihood>},
};

}  // namespace klqp
