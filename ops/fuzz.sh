#!/usr/bin/env bash
# Runs fuzz targets of the module for the given time each: those named after it, else
# all. UNDERSTUDY_FUZZ_WORKERS limits how many processes work at once.
#   ops/fuzz.sh [TIME [./FOLDER/TARGET ...]]
set -eu
time=${1:-60s}
[ $# -gt 0 ] && shift
wanted=" $* "
workers=${UNDERSTUDY_FUZZ_WORKERS:+-parallel=$UNDERSTUDY_FUZZ_WORKERS}
said=$(mktemp)
trap 'rm -f "$said"' EXIT

fuzz() {
  echo "fuzz $1 $2 for $time"
  if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" ${workers:+"$workers"} "$1" >"$said" 2>&1 </dev/null; then
    tail -n 1 "$said"
  # The end of the time in the middle of an input is told as a failure of it (go.dev/issue/48591).
  elif grep -q 'context deadline exceeded' "$said" && ! grep -qE 'Failing input|panic:' "$said"; then
    echo "ok  	$1, ended by the time"
  else
    cat "$said"
    return 1
  fi
}

grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
  grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r target; do
    dir=$(dirname "$file")
    case "$wanted" in "  " | *" $dir/$target "*) fuzz "$dir" "$target" ;; esac
  done
done
