#!/usr/bin/env bash
# Sets the project up in $VENV: packages, Debian packages where that is allowed, face-model files, compiled kernels.
# Idempotent; the Makefile runs it when pyproject.toml or this file has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
venv="${VENV:-.venv}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "visavis needs Python 3.11 or newer; name one with: make setup PYTHON=python3.12" >&2
    exit 1
}

# Chromium drives the browser tests and the latency benchmark, PortAudio is the local microphone,
# espeak-ng and flite are the synthetic voices, EGL draws the synthetic people. The demo itself needs none of them.
missing=()
have() { command -v "$1" >/dev/null 2>&1; }
have chromium || missing+=(chromium fonts-liberation)
have espeak-ng || missing+=(espeak-ng libespeak-ng1)
have flite || missing+=(flite)
ldconfig -p 2>/dev/null | grep -q libportaudio.so.2 || missing+=(libportaudio2)
ldconfig -p 2>/dev/null | grep -q libEGL.so.1 || missing+=(libegl1 libgl1-mesa-dri)
if [ ${#missing[@]} -gt 0 ] && have apt-get; then
    run=()
    [ "$(id -u)" -eq 0 ] || { have sudo && sudo -n true 2>/dev/null && run=(sudo -n); }
    if [ "$(id -u)" -eq 0 ] || [ ${#run[@]} -gt 0 ]; then
        echo "installing ${missing[*]}"
        "${run[@]}" apt-get update -qq || true
        DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
            echo "could not install ${missing[*]}; what needs them will say so" >&2
    else
        echo "not installed (no rights): ${missing[*]}; what needs them will say so" >&2
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
if [ -n "${TORCH_INDEX:-}" ]; then
    torch=$(sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' pyproject.toml)
    "${pip[@]}" --index-url "$TORCH_INDEX" "$torch"
fi
"${pip[@]}" --editable '.[mic,test]'
"$venv/bin/python" -m engine.face.models
"$venv/bin/python" -m engine.warm_up
