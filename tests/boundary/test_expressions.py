"""What the model language refuses: each message says what was expected and what came."""

import copy
import operator

import numpy as np
import pytest
import scipy.special

from klqp.model import nodes
from klqp.model.ancestral import evaluate
from klqp.model.parameter import Parameter, placeholder

x = placeholder((2, 3), name="x")
v = placeholder(3)
scalar = placeholder()
rows = placeholder(4, dtype=int, name="rows")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        # arithmetic
        (lambda: x + np.ones(2), ValueError, r"shapes \(2, 3\) and \(2,\) cannot be broadcast together"),
        (lambda: np.ones((4, 3)) * x, ValueError, r"shapes \(4, 3\) and \(2, 3\) cannot be broadcast"),
        (lambda: x + "a", TypeError, "must hold real numbers, not str|not dtype <U1"),
        (lambda: x + None, TypeError, "must hold real numbers, not NoneType"),
        (lambda: x * 1j, TypeError, "must hold real numbers"),
        (lambda: x * np.nan, ValueError, "must not hold NaN"),
        (lambda: x - np.nan, ValueError, "must not hold NaN"),
        (lambda: nodes.add(x, [1.0, np.nan, 2.0]), ValueError, r"must not hold NaN, but it does at index \(1,\)"),
        (lambda: nodes.add(x, [[1.0], [1.0, 2.0]]), ValueError, "ragged"),
        (lambda: x + np.ones((0, 3)), ValueError, r"must have elements, but its shape is \(0, 3\)"),
        (lambda: x**x, TypeError, "exponent must be one constant number"),
        (lambda: x ** np.ones(3), TypeError, "exponent must be one constant number"),
        (lambda: x ** float("nan"), ValueError, "must not hold NaN"),
        (lambda: x ** "2", TypeError, "must hold real numbers"),
        # products
        (lambda: x @ x, ValueError, r"cannot multiply matrices of shapes \(2, 3\) and \(2, 3\)"),
        (lambda: x @ 2.0, ValueError, r"cannot multiply matrices of shapes \(2, 3\) and \(\)"),
        (lambda: np.ones((1, 2, 3)) @ v, ValueError, r"shapes \(1, 2, 3\) and \(3,\)"),
        (lambda: nodes.outer(x, v), ValueError, r"outer takes vectors, not shapes \(2, 3\) and \(3,\)"),
        (lambda: nodes.dot(scalar, scalar), ValueError, r"axis -1 is out of bounds for shape \(\)"),
        # axes
        (lambda: x.sum(2), ValueError, r"axis 2 is out of bounds for shape \(2, 3\)"),
        (lambda: x.mean(-3), ValueError, "axis -3 is out of bounds"),
        (lambda: nodes.logsumexp(x, 5), ValueError, "axis 5 is out of bounds"),
        (lambda: nodes.softmax(scalar), ValueError, r"axis -1 is out of bounds for shape \(\)"),
        (lambda: x.sum((0, 1)), TypeError, r"axis must be one integer or None, not \(0, 1\)"),
        (lambda: x.sum(1.0), TypeError, "axis must be one integer or None, not 1.0"),
        # layout
        (lambda: x.reshape(4), ValueError, "reshape array of size 6"),
        (lambda: x.reshape(-1, -1), ValueError, "one unknown dimension"),
        (lambda: nodes.transpose(x, (0, 0)), ValueError, "repeated axis"),
        (lambda: nodes.broadcast_to(x, (3,)), ValueError, r"shape \(2, 3\) cannot be broadcast to \(3,\)"),
        (lambda: nodes.broadcast_to(np.ones(2), (3,)), ValueError, r"shape \(2,\) cannot be broadcast to \(3,\)"),
        (lambda: nodes.concatenate([]), ValueError, "at least one"),
        (lambda: nodes.concatenate([scalar, scalar]), ValueError, "scalars cannot be concatenated; use stack"),
        (
            lambda: nodes.concatenate([x, v]),
            ValueError,
            r"shapes \[\(2, 3\), \(3,\)\] do not fit together along axis 0",
        ),
        (lambda: nodes.concatenate([x, x], 2), ValueError, "axis 2 is out of bounds"),
        (lambda: nodes.stack([]), ValueError, "arrays of one shape"),
        (lambda: nodes.stack([x, v]), ValueError, r"stack needs arrays of one shape, not \[\(2, 3\), \(3,\)\]"),
        (lambda: nodes.stack([v, v], 2), ValueError, r"axis 2 is out of bounds for a stack of arrays of shape \(3,\)"),
        # indices
        (lambda: x[2], IndexError, "index 2 is out of bounds"),
        (lambda: x[0, 0, 0], IndexError, "too many indices"),
        (lambda: x[0.5], TypeError, "an index must hold integers, not float64"),
        (lambda: x["a"], TypeError, "an index must hold integers"),
        (lambda: x[0:0], IndexError, r"the index selects nothing from shape \(2, 3\)"),
        (lambda: nodes.take(nodes.as_expression(np.ones(3)), slice(0, 0)), IndexError, "selects nothing"),
        (lambda: x[rows, 0], TypeError, "an index that is an expression must be the only one"),
        (lambda: x[v], TypeError, "placeholder with dtype=int"),
        (lambda: scalar[rows], IndexError, "a scalar cannot be indexed"),
        (lambda: scalar[0], IndexError, "too many indices"),
        # protocols
        (lambda: bool(x), TypeError, "no truth value"),
        (lambda: x < 1, TypeError, "not supported"),
        (lambda: len(scalar), TypeError, "no length"),
        (lambda: iter(x), TypeError, "not iterable"),
        (lambda: np.ones(3) < x, TypeError, "less needs numbers"),
        (lambda: np.ones(3) ** x, TypeError, "exponent must be one constant number"),
        # NumPy's functions
        (lambda: np.exp(x), TypeError, r"NumPy's exp needs numbers.*: use klqp\.exp$"),
        (lambda: np.abs(x), TypeError, r"use klqp\.absolute$"),
        (lambda: scipy.special.expit(x), TypeError, r"use klqp\.sigmoid$"),
        (lambda: np.arctan(x), TypeError, r"arctan needs numbers.*klqp\.Deterministic"),
        (lambda: np.maximum(np.zeros(3), x), TypeError, "maximum needs numbers"),
        (lambda: np.exp(np.ones(3), out=x), TypeError, "exp needs numbers"),
        (lambda: np.add.reduce(x), TypeError, r"add\.reduce needs numbers"),
        (lambda: np.add(np.ones(3), x, out=np.ones((2, 3))), TypeError, "add needs numbers"),
        (lambda: operator.iadd(np.ones((2, 3)), x), TypeError, "add needs numbers"),
        # placeholders and parameters
        (lambda: placeholder(0), ValueError, "each size in shape must be a positive integer, not 0"),
        (lambda: placeholder(2.5), TypeError, "each size in shape must be a positive integer, not 2.5"),
        (lambda: placeholder(2, dtype=complex), TypeError, "must be a float or an integer type, not complex128"),
        (lambda: placeholder(2, name=""), ValueError, "name must be a string that is not empty"),
        (lambda: x.checked(np.ones(3)), ValueError, r"placeholder 'x' must have shape \(2, 3\), not \(3,\)"),
        (lambda: rows.checked([0.5, 1, 2, 3]), TypeError, "placeholder 'rows' must be integers"),
        (lambda: Parameter(np.nan), ValueError, "must not hold NaN"),
        (lambda: Parameter(-1.0, support="positive"), ValueError, "must be inside the support positive"),
        (lambda: Parameter(1.0, support="nowhere"), ValueError, "support must be one of"),
        # values
        (lambda: evaluate([x + 1], {}, 2), ValueError, "has no value here"),
        (
            lambda: evaluate([x + 1], {x: np.ones(5)}, 2),
            ValueError,
            r"must have shape \(2, 3\) or \(2, 2, 3\), not \(5,\)",
        ),
        (
            lambda: evaluate([v[rows]], {v: np.ones(3), rows: [0, 1, 3, 2]}, 1),
            ValueError,
            r"integer in \[0, 3\), not 3",
        ),
    ],
)
def test_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_setting_a_parameter():
    p = Parameter([1.0, 2.0], support="positive", name="p")
    for bad, message in [([1.0], r"\(2,\), not \(1,\)"), ([1.0, -1.0], "support positive"), ([1.0, np.nan], "NaN")]:
        with pytest.raises(ValueError, match=message) as caught:
            p.value = bad
        assert "'p'" in str(caught.value)
        np.testing.assert_allclose(p.value, [1.0, 2.0])


def test_expressions_are_compared_by_identity_and_are_their_own_copies():
    y = x + 1
    assert x == x
    assert x != placeholder((2, 3))
    assert copy.copy(y) is y
    assert copy.deepcopy([y])[0] is y
    assert len({x, y, x}) == 2


def test_constants_do_not_follow_the_arrays_they_were_made_from():
    array = np.ones(3)
    y = v + array
    array[:] = 5
    np.testing.assert_array_equal(evaluate([y], {v: np.zeros(3)}, 1)[0], np.ones(3))


def test_values_given_are_not_changed():
    values = np.arange(6.0).reshape(2, 3)
    values.flags.writeable = False
    evaluate([v * 2.0], {v: values}, 2)


@pytest.mark.parametrize("array", [np.full((2, 3), 2.0), np.float64(2.0), np.int64(2)], ids=["array", "float", "int"])
@pytest.mark.parametrize("apply", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_numpy_on_the_left(array, apply):
    values = np.arange(1.0, 7.0).reshape(2, 3)
    (result,) = evaluate([apply(array, x)], {x: values}, 1)
    np.testing.assert_array_equal(result, apply(array, values))


def test_matrix_on_the_left():
    values = np.arange(6.0).reshape(2, 3)
    (result,) = evaluate([np.ones((4, 2)) @ x], {x: values}, 1)
    np.testing.assert_array_equal(result, np.ones((4, 2)) @ values)


def test_arrays_are_other_objects():
    assert (np.ones((2, 3)) == x) is False
    assert (np.ones((2, 3)) != x) is True
    assert (x == np.ones((2, 3))) is False
