"""Package discovery: ``src/`` is the package ``cxrlab`` and ``conf/`` ships inside it; the rest is pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup


def _under(name: str, found: list[str]) -> list[str]:
    return [name, *(f"{name}.{package}" for package in found)]


setup(
    packages=[
        *_under("cxrlab", find_packages("src")),
        *_under("cxrlab.conf", find_namespace_packages("conf")),
    ],
    package_dir={"cxrlab": "src", "cxrlab.conf": "conf"},
    package_data={"": ["*.yaml", "*.csv", "*.css", "*.js", "*.svg", "templates/*", "py.typed"]},
)
