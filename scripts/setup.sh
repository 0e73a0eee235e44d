#!/usr/bin/env bash
# Brings a machine to the state the project needs. Sourced by ./dev; every function is idempotent and
# quick when nothing is missing.
#
#   setup_packages GROUP...   Debian or Ubuntu packages: build test lint bench train
#   setup_venv                .venv with the system's site packages
#   setup_build               editable build of the package into .venv

build_packages="python3.14 python3.14-dev python3.14-venv libllama-dev libggml-dev g++-16 cmake ninja-build
                git ca-certificates python3-scikit-build-core python3-pip python3-rich python3-jinja2
                python3-pyelftools"
test_packages="googletest python3-pytest python3-hypothesis python3-numpy python3-gguf python3-jsonschema
               libpython3.14-testsuite libggml0-backend-rpc llama.cpp-tools-extra"
lint_packages="clang-format clang-tidy ruff mypy"
bench_packages="llama.cpp-tools llama.cpp-tools-extra python3-matplotlib python3-numpy python3-gguf"
train_packages="python3-torch python3-numpy python3-gguf python3-matplotlib llama.cpp-tools"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'dev: %s\n' "$*" >&2; exit 1; }

packages_of() {
    local group
    for group in "$@"; do
        local name="${group}_packages"
        printf '%s ' ${!name}
    done | tr ' \n' '\n\n' | sort -u
}

installed() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^.i'; }

# GCC 16 and clang tools may be installed in an older version than the project needs; python3 must be 3.14
# so that Debian's python3-* modules (rich, jinja2, pytest, numpy) carry their compiled parts for it.
too_old() {
    case "$1" in
        clang-format | clang-tidy) local wanted=19 ;;
        cmake) local wanted=3.28 ;;
        *) return 1 ;;
    esac
    local have
    have=$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null | sed 's/^[0-9]*://')
    dpkg --compare-versions "$have" lt "$wanted"
}

missing_packages() {
    local package
    for package in $(packages_of "$@"); do
        if ! installed "$package" || too_old "$package"; then printf '%s ' "$package"; fi
    done
    if ! /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 14))' 2>/dev/null; then
        printf 'python3 '
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else die "installing packages needs root: run as root, or install sudo"; fi
}

# The first Debian mirror that this machine's own apt configuration names, in either of apt's formats.
debian_mirror() {
    local from_apt
    from_apt=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(COMPONENT)' 2>/dev/null |
        awk '$2 == "Debian" && $3 == "main" && $1 !~ /security/ { sub("/$", "", $1); print $1; exit }')
    if [ -z "$from_apt" ]; then
        from_apt=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
            sed -nE 's/^URIs:[[:space:]]*([^ ]+debian)\/?[[:space:]]*$/\1/p; s/^deb (\[[^]]*\] )?([^ ]+debian)\/? .*/\2/p' |
            grep -v security | head -n 1)
    fi
    printf '%s' "$from_apt"
}

# bookworm and trixie: forky's packages at a priority so low that nothing else moves by itself.
enable_forky() {
    local codename=$1 list=/etc/apt/sources.list.d/syncyte-forky.sources
    local pin=/etc/apt/preferences.d/syncyte-forky
    [ -e "$list" ] && [ -e "$pin" ] && return
    local mirror suites=forky
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "found no Debian mirror in this machine's apt sources: add one, then run ./dev again"
    [ "$codename" = bookworm ] && suites="trixie forky"
    say "adding $suites ($mirror) to apt at low priority: $list"
    as_root tee "$list" >/dev/null <<SOURCES
Types: deb
URIs: $mirror
Suites: $suites
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    as_root tee "$pin" >/dev/null <<PIN
Package: *
Pin: release n=trixie
Pin-Priority: 90

Package: *
Pin: release n=forky
Pin-Priority: 80
PIN
}

explain_unsupported() {
    die "this machine ($1) is not one ./dev knows how to set up. It needs, by any means:
  CPython 3.14 with headers and venv      GCC 16 (or another compiler with C++23)
  libllama 0.7 and libggml 0.27, headers  CMake 3.28, Ninja, scikit-build-core
  Python modules rich, jinja2, elftools; for tests  pytest, hypothesis, numpy, gguf, GoogleTest
Debian 12, 13 and forky, and Ubuntu releases with python3.14, are set up by ./dev itself; the Dockerfile
in this folder builds an image with everything elsewhere. Set SYNCYTE_NO_INSTALL=1 when all is in place."
}

setup_packages() {
    [ -n "${SYNCYTE_NO_INSTALL:-}" ] && return
    local id="unknown" codename="" apt_options=()
    # shellcheck disable=SC1091
    [ -r /etc/os-release ] && . /etc/os-release && id=${ID:-unknown} && codename=${VERSION_CODENAME:-}
    command -v apt-get >/dev/null || explain_unsupported "${PRETTY_NAME:-$id}"
    local missing
    missing=$(missing_packages "$@")
    [ -z "$missing" ] && return

    case "$id:$codename" in
        debian:bookworm | debian:trixie)
            enable_forky "$codename"
            apt_options=(-t forky)
            ;;
        debian:* | ubuntu:*) ;;
        *) explain_unsupported "${PRETTY_NAME:-$id}" ;;
    esac
    say "installing: $missing"
    [ ${#apt_options[@]} -gt 0 ] && [ "$codename" != forky ] &&
        say "note: this moves the system's python3 to 3.14 and may remove desktop packages that depend on the old one"
    as_root apt-get update -qq
    if [ "$id" = ubuntu ] && ! apt-cache show python3.14 libllama-dev >/dev/null 2>&1; then
        explain_unsupported "${PRETTY_NAME:-$id}: its archive has no python3.14 or no libllama-dev"
    fi
    if [ "$codename" = bookworm ] && ! installed libssl3t64; then
        # dpkg stops at a file conflict unless OpenSSL moves first
        as_root apt-get install -y -qq -t trixie libssl3t64 openssl openssl-provider-legacy >/dev/null
    fi
    # shellcheck disable=SC2086
    as_root apt-get install -y -qq --no-install-recommends "${apt_options[@]}" $missing >/dev/null ||
        die "apt-get could not install: $missing
Run it by hand to see why: apt-get install ${apt_options[*]} $missing"
}

setup_venv() {
    [ -x .venv/bin/python ] && .venv/bin/python -c '
import sys; sys.exit(sys.version_info[:2] != (3, 14))' 2>/dev/null && return
    say "making .venv (CPython 3.14, system site packages)"
    rm -rf .venv
    /usr/bin/python3.14 -m venv --without-pip --system-site-packages .venv
}

# Configures (once) and builds one CMake preset; quiet unless it fails.
setup_preset() {
    local preset=$1 log="build/$1.log"
    mkdir -p build
    if [ ! -f "build/$preset/build.ninja" ]; then
        cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; die "CMake could not configure $preset"; }
    fi
    [ -t 2 ] && say "building $preset"
    cmake --build --preset "$preset" >"$log" 2>&1 || { grep -vE '^\[[0-9]+/' "$log" | tail -n 60 >&2; die "the $preset build failed; all of it is in $log"; }
}

# The package, editable: a path entry in .venv points at python/, where the build puts the extension.
setup_editable() {
    local stamp=.venv/syncyte-installed
    [ "$stamp" -nt pyproject.toml ] && return
    say "installing the package into .venv (editable)"
    .venv/bin/python -m pip install --quiet --no-build-isolation --no-deps --editable . ||
        die "pip could not install the package"
    touch "$stamp"
}
