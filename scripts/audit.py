"""Asks for known weaknesses in what is installed: exit code 1 when there are any.

What cannot be asked is said aloud and fails nothing: there may be no network here, or an index of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys

TIMEOUT_SECONDS = 120


def main() -> int:
    """Run pip-audit on this environment and tell what it found."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json", "--skip-editable"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        packages = json.loads(ran.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _skipped(f"no answer within {TIMEOUT_SECONDS} s")
    except (ValueError, KeyError):
        words = ran.stderr.strip().splitlines() or ["pip-audit said nothing"]
        return _skipped(words[-1])
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    weak = [(each, found) for each in packages for found in each.get("vulns", ())]
    if len(unknown) == len(packages):
        return _skipped(f"none of {len(packages)} packages could be looked up")
    for each, found in weak:
        fixed = ", ".join(found["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    print(f"audit: {len(packages) - len(unknown)} packages, {len(weak)} known weaknesses, {len(unknown)} not looked up")
    return 1 if weak else 0


def _skipped(why: str) -> int:
    print(f"audit SKIPPED: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
