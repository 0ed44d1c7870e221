# cython: language_level=3, freethreading_compatible=True
"""Capsules of native log densities: made from addresses, and looked into."""

from cpython.pycapsule cimport (
    PyCapsule_CheckExact, PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer,
    PyCapsule_New, PyCapsule_SetContext,
)
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from klqp.native cimport KLQP_CAPSULE_NAME, KLQP_POINTWISE, KLQP_REENTRANT, klqp_logdensity_v1

REENTRANT = KLQP_REENTRANT
POINTWISE = KLQP_POINTWISE
CAPSULE_NAME = KLQP_CAPSULE_NAME.decode()


cdef void release(object capsule) noexcept:
    # The owner of the function lives as long as the capsule.
    free(PyCapsule_GetPointer(capsule, KLQP_CAPSULE_NAME))
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


def make_capsule(uintptr_t fn, uintptr_t user_data, unsigned int flags, owner):
    """Return a capsule "klqp.logdensity.v1" for the function at address `fn`; it keeps `owner` alive."""
    cdef klqp_logdensity_v1* function = <klqp_logdensity_v1*>malloc(sizeof(klqp_logdensity_v1))
    if function is NULL:
        raise MemoryError()
    function.fn = <void*>fn
    function.user_data = <void*>user_data
    function.flags = flags
    capsule = PyCapsule_New(function, KLQP_CAPSULE_NAME, release)
    Py_INCREF(owner)
    PyCapsule_SetContext(capsule, <void*><PyObject*>owner)
    return capsule


def is_capsule(value):
    """Whether `value` is a PyCapsule."""
    return PyCapsule_CheckExact(value)


def capsule_name(capsule):
    """Return the name of a capsule, "" when it has none."""
    cdef const char* name = PyCapsule_GetName(capsule)
    return "" if name is NULL else (<bytes>name).decode()


def function_capsule(capsule):
    """Return (address, address of the user data) of a capsule whose name is a C signature."""
    cdef const char* name = PyCapsule_GetName(capsule)
    return <uintptr_t>PyCapsule_GetPointer(capsule, name), <uintptr_t>PyCapsule_GetContext(capsule)


def logdensity_capsule(capsule):
    """Return (address, address of the user data, flags) of a capsule "klqp.logdensity.v1"."""
    cdef klqp_logdensity_v1* function = <klqp_logdensity_v1*>PyCapsule_GetPointer(capsule, KLQP_CAPSULE_NAME)
    return <uintptr_t>function.fn, <uintptr_t>function.user_data, function.flags
