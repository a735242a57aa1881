#!/usr/bin/env bash
# Checks the rows of ./table exhaustively: run.sh [ci|long|all]. Needs spin, gcc and libc6-dev. Prints a line for each row and ends with 0
# only where every row came out as the table says: no error and a complete search, or the named claim violated.
# JOBS (2) rows at a time, MEMORY_MB (1900) for each.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

check() { # class | model | parameters | expected
  local class model parameters expected work began found states verdict=DEVIATES
  IFS='|' read -r class model parameters expected <<<"$1"
  model=${model// /} expected=${expected// /}
  work=$(mktemp -d)
  began=$SECONDS
  cp "$here/$model.pml" "$work" && cd "$work"
  # shellcheck disable=SC2086 # parameters are words
  nice -n 15 spin $parameters -a "$model.pml" >log 2>&1 &&
    nice -n 15 gcc -O1 -DSAFETY -DNOCLAIM -DNOREDUCE -DMEMLIM="${MEMORY_MB:-1900}" -o pan pan.c >>log 2>&1 || { cat log; rm -rf "$work"; return 1; }
  nice -n 15 ./pan -m10000 -w22 >out 2>&1 || true
  states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out)
  found=$(sed -n 's/.*assertion violated.*|| *\([A-Z_]*\)).*/\1/p' out)
  if grep -q 'errors: 0' out && ! grep -qE 'not completed|too small|out of memory' out; then found=OK; fi
  case ",$expected," in *,"${found:-nothing}",*) verdict=good ;; esac
  printf '%-8s %-7s %-62s %-15s %10s states %4d s\n' "$verdict" "$model" "$parameters" "${found:-incomplete}" "${states:-?}" $((SECONDS - began))
  cd / && rm -rf "$work"
  [ "$verdict" = good ]
}

if [ "${1:-}" = --row ]; then
  check "$2"
  exit
fi
class=${1:-ci}
[ "$class" = all ] && class='ci\|long'
grep "^\($class\) |" "$here/table" | tr '\n' '\0' | xargs -0 -n 1 -P "${JOBS:-2}" "$here/run.sh" --row
