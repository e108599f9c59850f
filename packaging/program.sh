#!/bin/sh
# @PROGRAM@ of pycontainerd @VERSION@ in one file: behind this text stands a zip archive of all programs and what they need.
# The first run unpacks it into a cache folder of whoever runs it; every run then execs the launcher in there.
build=@BUILD@ size=@SIZE@ python=@PYTHON@ machine=@MACHINE@ program=@PROGRAM@
me=$0
if [ -h "$me" ]; then me=$(/usr/bin/readlink -f "$me"); fi
case $me in /*) ;; *) me=$PWD/$me ;; esac
if [ -n "${PYCONTAINERD_PROGRAMS:-}" ]; then cache=$PYCONTAINERD_PROGRAMS
elif [ -O /var/cache ]; then cache=/var/cache/pycontainerd/programs # root, without asking a program who that is
else cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}/pycontainerd/programs; fi
top=$cache/$build
for py in /usr/bin/python3 /usr/local/bin/python3; do
  [ -x "$py" ] || continue
  safe=${PYCONTAINERD_INTERPRETER:-/run/pycontainerd/interpreter}$py
  if [ -x "$safe" ]; then py=$safe; fi
  # Only what this same user has unpacked there is run.
  if [ -O "$cache" ] && [ -O "$top" ] && [ ! -h "$top" ]; then exec "$py" -IS "$top/bin/$program" "$0" "$@"; fi
  exec "$py" -IS "$me" "$cache" "$build" "$size" "$python" "$machine" "$program" "$0" "$@"
done
echo "${0##*/}: no python3 in /usr/bin or /usr/local/bin; install Python $python" >&2
exit 127
