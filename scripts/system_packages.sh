#!/bin/sh
# Surfaceless EGL and python3-venv: installed when root, otherwise the exact line is printed and we stop.
set -eu
missing=""
ldconfig -p | grep -q 'libEGL\.so\.1' || missing="$missing libegl1"
ldconfig -p | grep -q 'libEGL_mesa\.so\.0' || ldconfig -p | grep -q 'libEGL_nvidia\.so\.0' || missing="$missing libegl-mesa0"
ldconfig -p | grep -q 'libGL\.so\.1' || missing="$missing libgl1"
ls /usr/lib/x86_64-linux-gnu/dri/swrast_dri.so >/dev/null 2>&1 || missing="$missing libgl1-mesa-dri"
${PYTHON:-python3} -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
[ -z "$missing" ] && exit 0
line="apt-get install -y$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "these system packages are missing; as root run:" >&2
    echo "    $line" >&2
    exit 1
fi
