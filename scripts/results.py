#!/usr/bin/env python3
"""Counts the results of one part of scripts/test, and notes which tests failed.

    results.py meson|pytest RESULTS BUILD FAILED

RESULTS is meson's testlog.json, or pytest's JUnit file. Prints "passed failed skipped". For each test
that failed, FAILED gets a line by which it can be run again: meson or pytest, BUILD and the test's name,
with tabs between them.
"""

import json
import os
import sys
import xml.etree.ElementTree as tree


def meson(path):
    with open(path) as file:
        results = [json.loads(line) for line in file]
    skipped = sum(r["result"] == "SKIP" for r in results)
    bad = [r["name"].split(" / ")[-1] for r in results if r["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")]
    return len(results), skipped, bad


def node_id(case):
    """tests.e2e.test_x.TestY and test_z are tests/e2e/test_x.py::TestY::test_z."""
    parts = [part for part in case.get("classname", "").split(".") if part]
    for i in range(len(parts), 0, -1):
        file = os.path.join(*parts[:i]) + ".py"
        if os.path.exists(file):
            return "::".join([file, *parts[i:], case.get("name")])
    return case.get("name")  # a file that could not be read: its name with dots, which no run finds


def pytest(path):
    root = tree.parse(path).getroot()
    suites = list(root.iter("testsuite"))
    bad = {node_id(case): None for case in root.iter("testcase")
           if case.find("failure") is not None or case.find("error") is not None}
    total, skipped = (sum(int(suite.get(key)) for suite in suites) for key in ("tests", "skipped"))
    return total, skipped, list(bad)


def main():
    kind, path, build, failed = sys.argv[1:]
    total, skipped, names = {"meson": meson, "pytest": pytest}[kind](path)
    with open(failed, "a") as file:
        file.writelines(f"{kind}\t{build}\t{name}\n" for name in names)
    print(max(total - len(names) - skipped, 0), len(names), skipped)


if __name__ == "__main__":
    main()
