#!/bin/sh
# Checks that OpenGL without a screen (EGL) works with the Python given as $1; on Debian, as root, installs what is missing.
set -u
python=$1
packages="libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri"

[ "$(uname -s)" = Linux ] || exit 0

works() {
    "$python" -c 'import moderngl; moderngl.create_context(standalone=True, backend="egl", require=330).release()' 2>/dev/null
}

works && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "EGL does not work here; installing $packages"
    apt-get update -qq
    # shellcheck disable=SC2086 # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    works && exit 0
    echo "EGL still does not work after installing $packages; 'mien doctor' says more" >&2
    exit 1
fi
echo "OpenGL without a screen (EGL) does not work here. On Debian or Ubuntu:" >&2
echo "    sudo apt-get install --no-install-recommends $packages" >&2
echo "then run make again. Elsewhere install Mesa's EGL and its software renderer (llvmpipe)." >&2
exit 1
