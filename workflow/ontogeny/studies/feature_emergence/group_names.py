"""Names of finite groups, and which of them exist. Imports nothing but Python: settings are read before any job starts.

C23     cyclic, of order 23                    D7      dihedral, the symmetries of a 7-gon (order 14)
Q8      generalised quaternion (order 4n)      S4, A5  symmetric, alternating
C7:C3   the non-Abelian semidirect product of two cyclic groups of prime orders p and q: it exists only if q | p - 1
C3xC5   direct product of any of the above
"""

from __future__ import annotations

import re
from math import factorial, prod

LARGEST = 200  # order up to which a multiplication table is built


def factors(name: str) -> list[str]:
    """The direct factors of a group's name."""
    return name.split("x")


def order(name: str) -> int:
    """Number of elements M of the group `name`. Raises ValueError if there is no such group."""
    total = prod(_factor_order(factor) for factor in factors(name))
    if not 3 <= total <= LARGEST:
        raise ValueError(f"the group {name} has {total} elements; the study takes groups of 3 to {LARGEST}")
    return total


def is_odd_cyclic(name: str) -> bool:
    """Whether `name` is written as a cyclic group of odd order."""
    return re.fullmatch(r"C\d+", name) is not None and order(name) % 2 == 1


def semidirect(name: str) -> tuple[int, int]:
    """(p, q) of the name Cp:Cq. Raises ValueError if there is no such non-Abelian group."""
    p, q = (int(part) for part in re.fullmatch(r"C(\d+):C(\d+)", name).groups())  # type: ignore[union-attr]
    if not (_is_prime(p) and _is_prime(q) and (p - 1) % q == 0):
        raise ValueError(
            f"there is no group {name}: C{q} acts on C{p} without fixed points only if {p} and {q} are prime and "
            f"{q} divides {p - 1}"
        )
    return p, q


def _factor_order(name: str) -> int:
    if re.fullmatch(r"C\d+:C\d+", name):
        return prod(semidirect(name))
    match = re.fullmatch(r"([CDQSA])(\d+)", name)
    if match is None:
        raise ValueError(f"there is no group {name!r}; names are C23, D7, Q8, S4, A5, C7:C3, or products such as C3xC5")
    family, number = match[1], int(match[2])
    _check_number(family, number, name)
    if family in "SA":
        return factorial(number) // (2 if family == "A" else 1)
    return 2 * number if family == "D" else number


def _check_number(family: str, number: int, name: str) -> None:
    """Refuse a number that the family does not have."""
    rules = {
        "C": (number >= 2, "cyclic groups have an order of at least 2"),
        "D": (number >= 3, "D_n is the group of symmetries of an n-gon, n at least 3"),
        "Q": (number >= 8 and number % 4 == 0, "the order of a generalised quaternion group is 8, 12, 16, ..."),
        "S": (3 <= number <= 5, "symmetric groups are taken from S3 to S5"),
        "A": (3 <= number <= 5, "alternating groups are taken from A3 to A5"),
    }
    exists, rule = rules[family]
    if not exists:
        raise ValueError(f"there is no group {name}: {rule}")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
