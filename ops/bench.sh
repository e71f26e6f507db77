#!/usr/bin/env bash
# Measures Understudy against rsync, lsyncd and the machine itself. As root, alone on the
# machine: other work moves every figure.
#   ops/bench.sh [-short] [-rounds N] [-profile DIR] [ROW ...]
#   rows: machine latency burst rename random large small verify blocks limited many replay tls capture (all if none is named)
# Trees and queues go to a new directory below BENCH_DIR (default /var/tmp; a real disk
# with 15 GB free). Ends what it started and unmounts what it mounted, also on failure.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
  echo "bench: needs root: it mounts" >&2
  exit 1
fi

missing=()
for tool in rsync lsyncd; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/understudy-bench.XXXXXX")
pid=
# The daemons and children die with the program that started them; a mount whose daemon
# is dead is only unmounted.
cleanup() {
  trap - EXIT INT TERM HUP
  if [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; then
    for _ in $(seq 600); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
  fi
  while read -r _ _ dev _ at _; do
    case $at in "$work"/*)
      echo 1 >"/sys/fs/fuse/connections/${dev#*:}/abort" 2>/dev/null || true
      umount -l "$at" 2>/dev/null || true
      ;;
    esac
  done </proc/self/mountinfo
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$work/bin" "$work/run"
go build -o "$work/bin/" ./cmd/understudy ./bench
"$work/bin/bench" -work "$work/run" -understudy "$work/bin/understudy" "$@" &
pid=$!
status=0
wait "$pid" || status=$?
pid=
exit "$status"
