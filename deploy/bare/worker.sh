#!/usr/bin/env bash
# Runs a command for train.sh, and asks it to end once train.sh lets go of this script's standard input, or is
# gone, or the connection to it: no worker is left behind.
exec 3<&0
setsid "$@" </dev/null 3<&- &   # a session of its own: Ctrl-C at the terminal goes to train.sh alone
worker=$!
(
    read -r _ <&3
    kill -TERM "$worker"
    trap 'kill $!; exit' TERM
    sleep 300 &   # for a validation to end, and to save; who is still here then hangs
    wait $!
    kill -KILL "$worker"
) >/dev/null 2>&1 &
watch=$!
trap 'kill -TERM "$worker"' TERM HUP
wait "$worker"
status=$?
while kill -0 "$worker" 2>/dev/null; do   # a signal ended the waiting, not the worker
    wait "$worker"
    status=$?
done
kill "$watch" 2>/dev/null
exit "$status"
