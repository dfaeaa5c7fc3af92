"""The ctypes structs and the constants against the header, by a C compiler."""

import ctypes
import shutil
import subprocess

import pytest
from conftest import ROOT

from grate import _native, _types

HEADER = ROOT / "include" / "grate.h"
STRUCTS = {
    "grate_error": _native.Error,
    "grate_engine_config": _native.EngineConfig,
    "grate_metrics": _native.Metrics,
    "grate_quota_state": _native.QuotaState,
    "grate_provider_state": _native.ProviderState,
    "grate_request": _native.Request,
    "grate_candidate": _native.Candidate,
    "grate_decision": _native.Decision,
    "grate_header": _native.Header,
    "grate_response": _native.Response,
    "grate_header_quota": _native.HeaderQuota,
    "grate_header_report": _native.HeaderReport,
}


def constants():
    tables = {
        "DIMENSION": _types.DIMENSIONS,
        "HELD_BY": ("nothing", *_types.HELD_BY[1:]),
        "CIRCUIT": _types.CIRCUITS,
        "STRATEGY": (None, *_types.STRATEGIES[1:]),
        "OUTCOME": tuple(_types.OUTCOMES),
    }
    for kind, names in tables.items():
        for value, name in enumerate(names):
            if name is not None:
                yield f"GRATE_{kind}_{name.upper()}", value
    for name in ("OK", *(name for name in vars(_native) if name.startswith("ERR_"))):
        yield f"GRATE_{name}", getattr(_native, name)
    for name in ("ZERO", "NEVER", "ABSENT"):
        yield f"GRATE_{name}", getattr(_native, name)
    yield "GRATE_VERSION", _native.HEADER_VERSION


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """What the compiler says of sizes, offsets and constants, by expression."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("skipped: no C compiler")
    if not HEADER.exists():
        pytest.skip("skipped: this copy of the package comes without include/grate.h")
    asked = [f"sizeof({name})" for name in STRUCTS]
    asked += [f"offsetof({name}, {field[0]})" for name, layout in STRUCTS.items() for field in layout._fields_]
    asked += [name for name, _ in constants()]
    lines = "\n".join(f'    printf("{a}=%llu\\n", (unsigned long long)({a}));' for a in asked)
    folder = tmp_path_factory.mktemp("layout")
    source, program = folder / "layout.c", folder / "layout"
    source.write_text(
        f"#include <stddef.h>\n#include <stdio.h>\n#include <grate.h>\nint main(void)\n{{\n{lines}\n    return 0;\n}}\n"
    )
    subprocess.run([compiler, "-std=c99", f"-I{HEADER.parent}", str(source), "-o", str(program)], check=True)
    out = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in (line.rsplit("=", 1) for line in out.splitlines())}


@pytest.mark.parametrize("name", STRUCTS)
def test_struct(header, name):
    layout = STRUCTS[name]
    assert ctypes.sizeof(layout) == header[f"sizeof({name})"]
    for field in layout._fields_:
        assert getattr(layout, field[0]).offset == header[f"offsetof({name}, {field[0]})"], field[0]


def test_constants(header):
    for name, value in constants():
        assert header[name] == value, name
