# shellcheck shell=bash disable=SC2034
# What the scripts here share: where things are, how a step is shown and timed,
# how to become root. Sourced, never run.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
LIBTORCH_DIR=$ROOT/third_party/libtorch
STAGE=$ROOT/target/sora
# The toolchain the workspace declares (the one place that says it).
RUST_MIN=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$ROOT/Cargo.toml")
LIBTORCH_VERSION=2.11.0

# rustup puts cargo where a non-login shell does not look.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die WHAT [HOW-TO-GO-ON...]: one line that says what is wrong, then what to do.
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' "${t%???}"; }
# seconds MS: 1234 -> 1.2
seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# step LABEL COMMAND...: says what is done and how long it took. A failing
# command ends the script, which then names the step (see on_exit).
CURRENT_STEP=
step() {
    local label=$1 began
    shift
    CURRENT_STEP=$label
    began=$(now_ms)
    say "==> $label"
    "$@"
    say "    $label: $(seconds $(($(now_ms) - began))) s"
    CURRENT_STEP=
}

CLEANUP=()
on_exit() {
    local rc=$? path
    for path in ${CLEANUP[@]+"${CLEANUP[@]}"}; do rm -rf -- "$path"; done
    if [ "$rc" != 0 ] && [ -n "$CURRENT_STEP" ]; then
        printf 'error: this step failed: %s\n' "$CURRENT_STEP" >&2
    fi
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# as_root COMMAND...: as it is for root, through sudo for others.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo -- "$@"
    else
        die "this needs root, and there is no sudo here" "as root, run: $*"
    fi
}

# version_ge A B: is the dotted version A at least B?
version_ge() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | sed -n 1p)" = "$2" ]; }

# The scripts build against third_party/libtorch, which setup links to the
# libtorch you have; a variable meant for another build must not redirect
# torch-sys half-way (cargo's [env] gives way to the environment). CARGO_PREFIX:
# words to put before cargo, such as a timeout.
cargo_here() {
    (
        cd "$ROOT"
        # shellcheck disable=SC2086 # it is words
        env -u LIBTORCH -u LIBTORCH_INCLUDE -u LIBTORCH_LIB -u LIBTORCH_STATIC \
            -u LIBTORCH_USE_PYTORCH -u LIBTORCH_CXX11_ABI -u LIBTORCH_BYPASS_VERSION_CHECK \
            ${CARGO_PREFIX-} cargo "$@"
    )
}

# Where cargo puts what it builds, whatever variable or user config moved it.
target_dir() {
    cargo_here metadata --format-version 1 --no-deps --offline --locked |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# single_quote TEXT: TEXT as one word for any POSIX shell.
single_quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# usage: prints the comment block at the head of the calling script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# gst_value TEXT: TEXT as a property's value for gst-launch-1.0, whatever is in
# it. To GStreamer a quote in front, a backslash at the end and the word NULL
# mean something; a blank beside them, which models trim from a prompt, takes
# that away.
gst_value() {
    local text=$1
    case $text in \"* | NULL) text=" $text" ;; esac
    case $text in *\\) text="$text " ;; esac
    text=${text//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

# use_stage: gst-launch-1.0 and gst-inspect-1.0 find what scripts/stage laid out.
use_stage() {
    [ -r "$STAGE/env" ] ||
        die "there is no $STAGE yet" "build it: cargo build --release && scripts/stage (or scripts/demo, which does it all)"
    # shellcheck disable=SC1091 # made by scripts/stage
    . "$STAGE/env"
}

# training_threads DEVICE: how sora-train uses a CPU best, for train-sora-tiny and study; sets replicas, and threads for what takes
# none. Two threads that each take half of a batch (--replicas) do more than two inside an operation; as many as there are
# cores, a power of two since a batch is shared out equally, 8 at most since the smallest is of 8; sleeping waits, since the renderer
# has a thread of its own. glibc gives large blocks back and takes them again at every operation; jemalloc keeps them, if it is told that
# a block may also be cut from a much larger one that is free (by default up to 64 times as large: what was free had grown
# together to more than that, and a third of the time went into clearing new pages), and that large ones are no exception:
# a step of the student is 1.4 to 1.6 times as fast so, twice 30 steps of each in turn.
training_threads() {
    local jemalloc
    replicas=1 threads=1
    if [ "$1" = cpu ]; then
        while [ $((replicas * 2)) -le "$(nproc)" ] && [ "$replicas" -lt 8 ]; do replicas=$((replicas * 2)); done
        threads=$replicas
    fi
    # For those who source this.
    : "$replicas" "$threads"
    export OMP_WAIT_POLICY=PASSIVE
    jemalloc=$(ldconfig -p | sed -n 's/.*libjemalloc\.so\.2 .*=> //p' | head -n 1)
    if [ -n "$jemalloc" ]; then
        export LD_PRELOAD=$jemalloc MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,narenas:2,oversize_threshold:0,lg_extent_max_active_fit:40
    fi
}
