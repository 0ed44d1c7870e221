// The likelihoods of generalised linear models, by name.
#pragma once

#include <memory>

#include "core/registry.hpp"
#include "model/fused/likelihoods/categorical.hpp"
#include "model/fused/likelihoods/elementwise.hpp"
#include "model/fused/likelihoods/gamma.hpp"
#include "model/fused/likelihoods/ordered_logistic.hpp"

namespace klqp {

using GlmLikelihoodFactory = std::unique_ptr<GlmLikelihood> (*)(GlmData data);

namespace detail {

template <class L>
std::unique_ptr<GlmLikelihood> make_likelihood(GlmData data) {
  return std::make_unique<L>(std::move(data));
}

}  // namespace detail

inline constexpr Row<GlmLikelihoodFactory> kGlmLikelihoods[] = {
    {"normal",
     [](GlmData data) -> std::unique_ptr<GlmLikelihood> {
       return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{"normal", 1}, std::move(data));
     }},
    {"student_t",
     [](GlmData data) -> std::unique_ptr<GlmLikelihood> {
       return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{"student_t", 2}, std::move(data));
     }},
    {"bernoulli_logits",
     [](GlmData data) -> std::unique_ptr<GlmLikelihood> {
       return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{"bernoulli_logits", 1}, std::move(data));
     }},
    {"binomial_logits",
     [](GlmData data) -> std::unique_ptr<GlmLikelihood> {
       return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{"binomial_logits", 2}, std::move(data));
     }},
    {"poisson_log",
     [](GlmData data) -> std::unique_ptr<GlmLikelihood> {
       return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{"poisson_log", 1}, std::move(data));
     }},
    {"negative_binomial_logits",
     [](GlmData data) -> std::unique_ptr<GlmLikelihood> {
       return std::make_unique<ElementwiseLikelihood>(ElementwiseForm{"negative_binomial_logits", 2}, std::move(data));
     }},
    {"gamma_log", detail::make_likelihood<GammaLogLikelihood>},
    {"categorical_logits", detail::make_likelihood<CategoricalLogitsLikelihood>},
    {"ordered_logistic", detail::make_likelihood<OrderedLogisticLikelihood>},
};

}  // namespace klqp
