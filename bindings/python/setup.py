"""The optional part in C: without a compiler, or with a Python that cannot have it, the package is pure Python."""

import platform
import sys
import sysconfig

from setuptools import Extension, setup

# The stable ABI (what is used of it exists from 3.10 on): one build for all later versions.
POSSIBLE = (
    sys.version_info >= (3, 10)
    and platform.python_implementation() == "CPython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)

setup(
    ext_modules=[
        Extension(
            "grate._fast",
            ["grate/_fast.c"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")],
            py_limited_api=True,
            optional=True,
        )
    ]
    if POSSIBLE
    else [],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if POSSIBLE else {},
)
