"""Finite groups as multiplication tables, and the real irreducible parts of the functions on them.

A table has table[g, h] = the number of g h; element 0 is the identity.

A real function on a group of order M is a sum of parts that left and right translations leave alone, one for each
*real* irreducible representation. With d the complex dimension of what it comes from, and d_R its own:

    real type          part of dimension d^2      d_R = d
    complex type       2 d^2 (with its conjugate) d_R = 2 d
    quaternionic type  d^2                        d_R = 2 d

The parts are eigenspaces of convolution with a generic class function c that has c(g) = c(g^-1), so nothing but the
table is needed: no list of characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ontogeny.studies.feature_emergence.group_names import factors, order, semidirect

KINDS = ("real", "complex", "quaternionic")
SEPARATION = 1e-6  # eigenvalues of the generic class function that differ by less belong to one part


def multiplication_table(name: str) -> np.ndarray:
    """The table (M, M) of the group `name`, int64. Raises ValueError if there is no such group."""
    order(name)
    table = np.zeros((1, 1), dtype=np.int64)
    for factor in factors(name):
        other = _factor_table(factor)
        size = len(other)
        table = (table[:, None, :, None] * size + other[None, :, None, :]).reshape(len(table) * size, -1)
    return table


def _factor_table(name: str) -> np.ndarray:
    family = name[0]
    if ":" in name:
        p, q = semidirect(name)
        root = next(r for r in range(2, p) if pow(r, q, p) == 1)
        return _metacyclic(p, q, root, 0)
    number = int(name[1:])
    if family == "C":
        return _metacyclic(number, 1, 1, 0)
    if family == "D":
        return _metacyclic(number, 2, number - 1, 0)
    if family == "Q":
        return _metacyclic(number // 2, 2, number // 2 - 1, number // 4)
    return _permutation_table(number, even_only=family == "A")


def _metacyclic(p: int, q: int, root: int, power: int) -> np.ndarray:
    """The group of words a^i b^j with a^p = 1, b^q = a^power, b a b^-1 = a^root; element number i q + j."""
    i, j = (part.ravel() for part in np.divmod(np.arange(p * q), q))
    turned = np.array([pow(root, int(k), p) for k in range(q)])[j]
    carry = (j[:, None] + j) // q
    first = (i[:, None] + turned[:, None] * i + carry * power) % p
    return first * q + (j[:, None] + j) % q


def _permutation_table(letters: int, even_only: bool) -> np.ndarray:
    elements = [p for p in permutations(range(letters)) if not even_only or _is_even(p)]
    number = {element: index for index, element in enumerate(elements)}
    rows = [[number[tuple(g[h[i]] for i in range(letters))] for h in elements] for g in elements]
    return np.array(rows, dtype=np.int64)


def _is_even(permutation: tuple[int, ...]) -> bool:
    inversions = sum(a > b for i, a in enumerate(permutation) for b in permutation[i + 1 :])
    return inversions % 2 == 0


def check_group(table: np.ndarray) -> None:
    """Raise ValueError unless `table` (M, M) is the multiplication table of a group whose identity is element 0."""
    size = len(table)
    every = np.arange(size)
    if table.shape != (size, size) or not all(np.array_equal(np.sort(line), every) for line in (*table, *table.T)):
        raise ValueError("not a group: each element occurs once in each row and each column of its table")
    if not (np.array_equal(table[0], every) and np.array_equal(table[:, 0], every)):
        raise ValueError("not a group: element 0 is not the identity")
    if not np.array_equal(table[table], table[:, table]):
        raise ValueError("not a group: (g h) k is not always g (h k)")


def inverses(table: np.ndarray) -> np.ndarray:
    """The number of g^-1 for each g, (M,)."""
    return np.argmin(table, axis=1)


def conjugacy_classes(table: np.ndarray) -> np.ndarray:
    """The number of the conjugacy class of each element, (M,)."""
    inverse = inverses(table)
    conjugates = table[table, inverse[:, None]]  # [g, h] -> g h g^-1
    return np.unique(conjugates.min(axis=0), return_inverse=True)[1]


@dataclass(frozen=True)
class Parts:
    """The isotypic parts of the real functions on a group, without the constants; P of them.

    basis: (M, M - 1), orthonormal columns. part: (M - 1,), the part of each column.
    dimension: (P,) d. real_dimension: (P,) d_R. kind: (P,), an index into KINDS.
    """

    basis: np.ndarray
    part: np.ndarray
    dimension: np.ndarray
    real_dimension: np.ndarray
    kind: np.ndarray

    @property
    def maxima(self) -> np.ndarray:
        """E* = M / (2 d_R), the height of the energy's maxima in each part (P,); derived in `energy.py`."""
        return len(self.basis) / (2 * self.real_dimension)

    @property
    def zero_modes(self) -> np.ndarray:
        """Dimension of the manifold of maxima in each part (P,); derived in `energy.py`."""
        field = 2**self.kind  # 1, 2 or 4: dimension of the reals, the complex numbers, the quaternions
        return 3 * (self.real_dimension - 1) - (field - 1)

    @property
    def members(self) -> np.ndarray:
        """Which columns of `basis` belong to which part, (M - 1, P) of 0 and 1."""
        return np.eye(len(self.dimension))[self.part]


def decompose(table: np.ndarray) -> Parts:
    """Split the real functions on the group of `table` into its irreducible parts, the largest E* first."""
    classes, inverse = conjugacy_classes(table), inverses(table)
    drawn = np.random.default_rng(0).standard_normal(classes.max() + 1)[classes]
    symmetric = drawn + drawn[inverse]
    operator = symmetric[table[:, inverse]]  # [g, h] -> c(g h^-1)
    values, vectors = np.linalg.eigh(operator)
    spaces = np.split(vectors, np.flatnonzero(np.diff(values) > SEPARATION) + 1, axis=1)
    parts = [space for space in spaces if np.abs(space.sum(axis=0)).max() < SEPARATION]  # all but the constants
    described = sorted((_describe(space, table) for space in parts), key=lambda entry: entry[:2])
    return Parts(
        basis=np.concatenate([space for *_, space in described], axis=1),
        part=np.repeat(np.arange(len(described)), [space.shape[1] for *_, space in described]),
        dimension=np.array([entry[0] for entry in described]),
        real_dimension=np.array([entry[1] for entry in described]),
        kind=np.array([entry[2] for entry in described]),
    )


def _describe(space: np.ndarray, table: np.ndarray) -> tuple[int, int, int, np.ndarray]:
    """(d, d_R, kind, space) of one part, by the Frobenius-Schur indicator of its character."""
    kernel = space @ space[0]  # the projector's kernel: d / M times the sum of the part's characters
    indicator = kernel[np.diag(table)].sum()  # d, 0 or -d for real, complex and quaternionic type
    kind = 1 if abs(indicator) < 0.5 else 0 if indicator > 0 else 2
    dimension = round((space.shape[1] / (2 if kind == 1 else 1)) ** 0.5)
    return dimension, dimension if kind == 0 else 2 * dimension, kind, space
