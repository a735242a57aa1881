# Starting and stopping one local process, for the scripts beside this one, which source it. Each process has a folder
# $dir/NAME with pid, out (stdout), log (stderr) and whatever it keeps.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${XDG_STATE_HOME:-$HOME/.local/state}/tidemark-local
patience=${patience:-60} # seconds

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# usage prints the comment at the top of the script.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0" >&2; exit 2; }

# born PID: when the process began, so that a number which the system gave to another is not taken for ours.
born() {
  if [ -r "/proc/$1/stat" ]; then
    sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
  else
    ps -o lstart= -p "$1" 2>/dev/null
  fi
}

# running NAME: whether our process of that name runs; sets pid.
running() {
  local began
  [ -r "$dir/$1/pid" ] || return 1
  { read -r pid && read -r began; } <"$dir/$1/pid" || return 1
  kill -0 "$pid" 2>/dev/null && [ "$(born "$pid")" = "$began" ] && ! zombie "$pid"
}

zombie() { [ -r "/proc/$1/stat" ] && [ "$(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" = Z ]; }

# launch NAME COMMAND…: starts it in the background, detached from the terminal.
launch() {
  local name=$1 detach=()
  shift
  mkdir -p "$dir/$name"
  if command -v setsid >/dev/null; then detach=(setsid); fi
  "${detach[@]+"${detach[@]}"}" "$@" >"$dir/$name/out" 2>"$dir/$name/log" </dev/null &
  pid=$!
  disown "$pid"
  printf '%s\n%s\n' "$pid" "$(born "$pid")" >"$dir/$name/pid"
}

# halt NAME SIGNAL: stops our process of that name and waits until it is gone.
halt() {
  local name=$1 signal=$2 deadline=$((SECONDS + patience))
  if ! running "$name"; then rm -f "$dir/$name/pid"; return 0; fi
  kill "-$signal" "$pid" 2>/dev/null || true
  while running "$name"; do
    [ $SECONDS -lt $deadline ] || { echo "$name (process $pid) still runs $patience s after SIG$signal" >&2; return 1; }
    sleep 0.1
  done
  rm -f "$dir/$name/pid"
}

# free_port: prints a port of 127.0.0.1 that nobody listens on now, below those that the system gives out by itself. Another
# may be faster to take it: with_free_ports tries again then.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
  done
}

# listens PID PORT: whether it is this very process that listens on the port, as far as the system tells.
listens() {
  local inode
  [ -r "/proc/$1/net/tcp" ] || return 0
  inode=$(awk -v port="$(printf ':%04X' "$2")" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' /proc/"$1"/net/tcp* 2>/dev/null) || return 1
  [ -n "$inode" ] || return 1
  find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | grep -qxF "$(sed 's/.*/socket:[&]/' <<<"$inode")"
}

# await NAME PORT PATH: waits until our process itself answers http://127.0.0.1:PORT/PATH with success. Returns 1 when the
# process ends, or after $patience seconds.
await() {
  local name=$1 port=$2 path=$3 deadline=$((SECONDS + patience))
  while running "$name" && [ $SECONDS -lt $deadline ]; do
    if listens "$pid" "$port" && curl -fsS --noproxy '*' --max-time 2 -o /dev/null "http://127.0.0.1:$port/$path" 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  return 1
}

# complain NAME: shows why a process did not come up.
complain() {
  echo "$1 did not come up; the end of $dir/$1/log:" >&2
  tail -n 20 "$dir/$1/log" >&2
}

# port_taken NAME: whether the process says that it could not have its port.
port_taken() { grep -qi 'address already in use\|port.*already in use' "$dir/$1/log" "$dir/$1/out" 2>/dev/null; }
