#!/bin/sh
# Known weaknesses in what Mien installs, by pip-audit and the database of PyPI. Called by `make test` with the Python as $1.
# Fails when there are some. Without a network (or without the database in the package index) it says that nothing was
# audited, and passes: then only what needs no network holds, that every package is pinned with all that it pulls in.
set -u
python=$1
here=$(dirname "$0")
audit=$(dirname "$(dirname "$python")")/audit
version=2.10.1

[ -x "$audit/bin/pip-audit" ] || {
    "$python" -m venv --clear "$audit" &&
        "$audit/bin/python" -m pip --disable-pip-version-check install --quiet --timeout 10 --retries 0 "pip-audit==$version"
} >/dev/null 2>&1 || {
    rm -rf "$audit"
    echo "audit: pip-audit $version could not be installed; nothing was audited" >&2
    exit 0
}
timeout 120 "$audit/bin/pip-audit" --requirement "$here/live.txt" --no-deps --disable-pip --timeout 10 --format json \
    --progress-spinner off 2>/dev/null | "$python" -c '
import json, sys
try:
    rows = json.load(sys.stdin)["dependencies"]
except ValueError:
    rows = []
looked = [row for row in rows if "skip_reason" not in row]
weak = {row["name"]: [each["id"] for each in row["vulns"]] for row in looked if row["vulns"]}
for name, found in weak.items():
    print("audit: {}: {}; raise its pin in pyproject.toml, then: make lock".format(name, ", ".join(found)), file=sys.stderr)
print("audit: {} of {} packages of requirements/live.txt were looked up, {} with known weaknesses".format(
    len(looked), len(rows) or "all", len(weak)) if looked else
    "audit: no database of weaknesses could be reached; nothing was audited", file=sys.stderr)
sys.exit(bool(weak))'
