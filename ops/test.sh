#!/usr/bin/env bash
# Runs all tests, and beside them, at the lowest priority, one fuzzing process: the parser
# of the language and the decoder of the control requests, a minute each.
set -u
fuzzed=(./dtclsh/syntax/FuzzParse ./control/FuzzRequest)
log=$(mktemp)
set -m # the fuzzing is a process group, so that it ends as a whole
UNDERSTUDY_FUZZ_WORKERS=1 nice -n 19 bash ops/fuzz.sh 60s "${fuzzed[@]}" >"$log" 2>&1 &
fuzz=$!
set +m
trap 'kill -- -$fuzz 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
# The package that takes longest comes first, so that the others run beside it.
go test -timeout 30m -p 2 "$@" ./node ./...
tests=$?
wait "$fuzz"
fuzzing=$?
trap 'rm -f "$log"' EXIT
cat "$log"
if [ $fuzzing -ne 0 ] || [ "$(grep -c '^fuzz' "$log")" -ne ${#fuzzed[@]} ]; then
  echo "the fuzzing found something, or its targets are gone" >&2
  exit 1
fi
exit $tests
