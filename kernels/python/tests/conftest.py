from surroundings import find_packages, pytest_sessionfinish  # noqa: F401  a hook

find_packages()
