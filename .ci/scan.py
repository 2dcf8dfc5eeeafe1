"""Looks for secrets in what git holds, and for known holes in what the lock names; exit status 1 where there is one.

What `make check` runs. Where pip-audit reaches no data, it says so and lets pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
# What a script wrote; what a file must be; and the passwords of tests that show that none is told.
NOT_READ = r"^benchmarks/(results|recordings)/|\.svg$|^requirements\.lock$"
CHECKSUM = r'"[\w-]+\.\w+": "[0-9a-f]{64}"'
INVENTED = r"^(secret|password|word)$"


def secrets() -> list[str]:
    """Finds keys of known forms, and texts that are as random as keys. Not by names: tests of keys are full of them."""
    told = subprocess.run(
        [
            BIN / "detect-secrets", "scan", "--no-verify", "--disable-plugin", "KeywordDetector",
            "--exclude-files", NOT_READ, "--exclude-lines", CHECKSUM, "--exclude-secrets", INVENTED,
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [
        f"{file}:{found['line_number']}: {found['type']}; if it is none: # pragma: allowlist secret"
        for file, each in json.loads(told.stdout)["results"].items()
        for found in each
    ]


def holes() -> list[str]:
    """Finds what PyPI's advisories know of the versions in the lock."""
    told = subprocess.run(
        [
            BIN / "pip-audit", "--requirement", "requirements.lock", "--no-deps", "--disable-pip", "--timeout", "5",
            "--progress-spinner", "off", "--format", "json",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        packages = json.loads(told.stdout)["dependencies"]
    except ValueError:
        packages = []
    audited = [package for package in packages if "vulns" in package]
    if not audited:  # it finds nothing where a mirror has packages and no advisories, and does not call that a failure
        said = (
            "it knows none of them" if packages else (told.stderr.strip().splitlines() or ["and does not say why"])[-1]
        )
        print(f"pip-audit reaches no data here, so no package was audited: {said}")
        return []
    print(f"pip-audit: {len(audited)} of {len(packages)} packages audited")
    return [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        for package in audited
        for hole in package["vulns"]
    ]


if __name__ == "__main__":
    faults = [*secrets(), *holes()]
    print(*faults, sep="\n", end="\n" if faults else "")
    sys.exit(bool(faults))
