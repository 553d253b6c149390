"""The benchmark's arithmetic, on a case whose answer is known. Nothing here depends on how fast the machine is."""

import pytest

from ontogeny.bench import BenchCase, Need, Result, largest_remainder, main, needed_seconds, product


def case() -> BenchCase:
    return BenchCase(
        "known", members=10, steps=100, flops_per_member_step=2e6, batched=lambda n: None, single=lambda n: None
    )


def test_rates_count_the_arithmetic_of_all_members():
    result = Result(case(), batched_seconds=1e-3, single_seconds=5e-4, machine=100.0)
    assert result.batched_rate == pytest.approx(20.0)  # 10 members x 2 MFLOP in a millisecond
    assert result.single_rate == pytest.approx(4.0)
    assert result.per_hour(result.batched_seconds, 10) == pytest.approx(3600 * 10 / 0.1)


def test_the_profile_names_operations():
    import torch

    def work(steps: int) -> None:
        for _ in range(steps):
            torch.ones(200, 200) @ torch.ones(200, 200)

    profiled = BenchCase("known", 1, 1, 1.0, work, work)
    assert "aten::mm" in largest_remainder(profiled)


def test_needs_are_counted_once_for_every_call_of_a_step():
    import torch

    need = product(3, (2, 4, 5, 6), torch.float64, "cpu")
    assert need.call().shape == (2, 4, 6)
    assert float(need.call()[0, 0, 0]) == 5
    made: list[int] = []
    assert needed_seconds(Need("nothing", 0, lambda: made.append(1)), "cpu") == 0
    assert made


def test_an_unknown_study_is_refused(capsys):
    assert main(["deep_lineer"]) == 1
    assert "deep_lineer" in capsys.readouterr().err
