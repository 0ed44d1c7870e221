# The C interface of a log density, for `cimport klqp.native`.
from libc.stdint cimport int64_t, uint32_t

cdef extern from "klqp/native.h":
    ctypedef int (*klqp_logdensity_fn)(int64_t n, int64_t d, int64_t order, const double* z, double* logp,
                                       double* grad, void* user_data)
    ctypedef int (*klqp_pointwise_fn)(int64_t d, const double* z, double* grad, double* logp, void* user_data)
    ctypedef struct klqp_logdensity_v1:
        void* fn
        void* user_data
        uint32_t flags
    const uint32_t KLQP_REENTRANT
    const uint32_t KLQP_POINTWISE
    const char* KLQP_CAPSULE_NAME
