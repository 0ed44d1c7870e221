/* A library with the C interface of BridgeStan 2.9 (bridgestan.h) and a model of its own, as Stan would give
 *
 *   data { real limit; }  parameters { real mu; real<lower=0> sigma; matrix[2, 2] b; complex w; }
 *   model { mu ~ normal(0, 2); sigma ~ exponential(1); to_vector(b) ~ normal(0, 1); w's parts ~ normal(0, 1); }
 *
 * which throws where mu > limit, and counts calls that overlap. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define D 8

typedef struct bs_model {
  double limit;
} bs_model;
typedef struct bs_rng {
  int unused;
} bs_rng;
typedef void (*STREAM_CALLBACK)(const char* data, size_t size);

const int bs_major_version = 2, bs_minor_version = 9, bs_patch_version = 0;

/* --- what the tests ask --- */
long stub_alive, stub_messages, stub_calls, stub_inside, stub_most_inside;
static STREAM_CALLBACK print_callback;

static char* message(const char* text) {
  __atomic_add_fetch(&stub_messages, 1, __ATOMIC_SEQ_CST);
  return strcpy(malloc(strlen(text) + 1), text);
}

static int fail(char** error, const char* text) {
  if (error) *error = message(text);
  return -1;
}

void bs_free_error_msg(char* error) {
  __atomic_sub_fetch(&stub_messages, 1, __ATOMIC_SEQ_CST);
  free(error);
}

bs_model* bs_model_construct(const char* data, unsigned int seed, char** error) {
  (void)seed;
  const char* const found = data ? strstr(data, "\"limit\":") : NULL;
  if (!found) {
    fail(error, "variable does not exist; processing stage=data initialization; variable name=limit\n");
    return NULL;
  }
  bs_model* const m = malloc(sizeof *m);
  m->limit = strtod(found + 8, NULL);
  __atomic_add_fetch(&stub_alive, 1, __ATOMIC_SEQ_CST);
  return m;
}

void bs_model_destruct(bs_model* m) {
  __atomic_sub_fetch(&stub_alive, 1, __ATOMIC_SEQ_CST);
  free(m);
}

int bs_set_print_callback(STREAM_CALLBACK callback, char** error) {
  (void)error;
  print_callback = callback;
  return 0;
}

const char* bs_name(const bs_model* m) { return (void)m, "stub_model"; }
const char* bs_model_info(const bs_model* m) {
  (void)m;
#ifdef STAN_THREADS
  return "BridgeStan version: 2.9.0\nStan C++ Defines:\n\tSTAN_THREADS=true\n\tSTAN_MPI=false\n";
#else
  return "BridgeStan version: 2.9.0\nStan C++ Defines:\n\tSTAN_THREADS=false\n\tSTAN_MPI=false\n";
#endif
}
const char* bs_param_names(const bs_model* m, bool tp, bool gq) {
  return (void)m, (void)tp, (void)gq, "mu,sigma,b.1.1,b.2.1,b.1.2,b.2.2,w.real,w.imag";
}
const char* bs_param_unc_names(const bs_model* m) {
  return (void)m, "mu,sigma,b.1.1,b.2.1,b.1.2,b.2.2,w.real,w.imag";
}
int bs_param_num(const bs_model* m, bool tp, bool gq) { return (void)m, (void)tp, (void)gq, D; }
int bs_param_unc_num(const bs_model* m) { return (void)m, D; }

int bs_param_constrain(const bs_model* m, bool tp, bool gq, const double* theta_unc, double* theta, bs_rng* rng,
                       char** error) {
  (void)tp, (void)gq, (void)rng;
  if (theta_unc[0] > m->limit) return fail(error, "write_array: mu is too large\n");
  memcpy(theta, theta_unc, D * sizeof(double));
  theta[1] = exp(theta_unc[1]);
  return 0;
}

static int density(const bs_model* m, bool propto, bool jacobian, const double* z, double* value, double* grad,
                   char** error) {
  const long inside = __atomic_add_fetch(&stub_inside, 1, __ATOMIC_SEQ_CST);
  long most = __atomic_load_n(&stub_most_inside, __ATOMIC_SEQ_CST);
  while (inside > most && !__atomic_compare_exchange_n(&stub_most_inside, &most, inside, 0, __ATOMIC_SEQ_CST,
                                                       __ATOMIC_SEQ_CST)) {
  }
  if (__atomic_fetch_add(&stub_calls, 1, __ATOMIC_SEQ_CST) == 3 && print_callback) print_callback("hello\n", 6);
  int code = 0;
  *value = 1.0; /* as Stan may leave something there before it throws */
  if (z[0] > m->limit) {
    code = fail(error, "Exception: stub: mu is too large (in 'stub.stan', line 4)\n");
  } else {
    double sum = -0.125 * z[0] * z[0] - exp(z[1]) + (jacobian ? z[1] : 0.0);
    for (int i = 2; i < D; ++i) sum -= 0.5 * z[i] * z[i];
    *value = propto ? sum : sum - 3.5 * log(2 * M_PI) - log(2.0);
    if (grad) {
      for (int i = 2; i < D; ++i) grad[i] = -z[i];
      grad[0] = -0.25 * z[0];
      grad[1] = -exp(z[1]) + (jacobian ? 1.0 : 0.0);
    }
  }
  __atomic_sub_fetch(&stub_inside, 1, __ATOMIC_SEQ_CST);
  return code;
}

int bs_log_density(const bs_model* m, bool propto, bool jacobian, const double* theta_unc, double* lp, char** error) {
  return density(m, propto, jacobian, theta_unc, lp, NULL, error);
}
int bs_log_density_gradient(const bs_model* m, bool propto, bool jacobian, const double* theta_unc, double* val,
                            double* grad, char** error) {
  return density(m, propto, jacobian, theta_unc, val, grad, error);
}

/* --- the rest of the interface, which klqp does not call --- */
int bs_param_unconstrain(const bs_model* m, const double* theta, double* theta_unc, char** error) {
  (void)m, (void)theta, (void)theta_unc;
  return fail(error, "not in the stub");
}
int bs_param_unconstrain_json(const bs_model* m, const char* json, double* theta_unc, char** error) {
  (void)m, (void)json, (void)theta_unc;
  return fail(error, "not in the stub");
}
int bs_param_initialize(const bs_model* m, const char* json, bs_rng* rng, double radius, int tries, bool jacobian,
                        double* theta_unc, char** error) {
  (void)m, (void)json, (void)rng, (void)radius, (void)tries, (void)jacobian, (void)theta_unc;
  return fail(error, "not in the stub");
}
int bs_log_density_hessian(const bs_model* m, bool propto, bool jacobian, const double* theta_unc, double* val,
                           double* grad, double* hessian, char** error) {
  (void)m, (void)propto, (void)jacobian, (void)theta_unc, (void)val, (void)grad, (void)hessian;
  return fail(error, "not in the stub");
}
int bs_log_density_hessian_vector_product(const bs_model* m, bool propto, bool jacobian, const double* theta_unc,
                                          const double* vector, double* val, double* product, char** error) {
  (void)m, (void)propto, (void)jacobian, (void)theta_unc, (void)vector, (void)val, (void)product;
  return fail(error, "not in the stub");
}
bs_rng* bs_rng_construct(unsigned int seed, char** error) { return (void)seed, (void)error, calloc(1, sizeof(bs_rng)); }
void bs_rng_destruct(bs_rng* rng) { free(rng); }
