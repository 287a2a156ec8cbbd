from pathlib import Path

import pytest
import torch

from cxrlab.machine import precision


@pytest.mark.parametrize(
    ("flags", "expected", "reason"),
    [
        ("fpu avx512f avx512_bf16", "bf16-mixed", "AVX-512"),
        ("fpu avx512f avx512_bf16 amx_bf16", "bf16-mixed", "AMX"),
        ("fpu avx2 avx512f", "32-true", "no bf16 instructions"),
    ],
)
def test_a_processor_with_bf16_instructions_trains_in_bf16(
    flags: str, expected: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nmodel name : made up\nflags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "_CPUINFO", cpuinfo)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")

    name, why = precision.fastest("cpu")

    assert name == expected
    assert reason in why


def test_an_unknown_processor_trains_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "none")
    assert precision.fastest("cpu")[0] == "32-true"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_trains_in_bf16_where_it_can(supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    name, why = precision.fastest("cuda")
    assert name == expected
    assert why.startswith("Some GPU")


def test_apples_gpu_stays_with_float32() -> None:
    assert precision.fastest("mps")[0] == "32-true"
