#!/usr/bin/env bash
# Trains a recipe on several machines by ssh, or with several processes of this one. docs/scale.md tells more.
#
#     deploy/bare/train.sh HOSTS_FILE RECIPE [OPTION...]
#
# HOSTS_FILE has a line HOST:PORT for each worker, the chief's first; 127.0.0.1 and localhost take no ssh. All
# machines have this folder at the same path, with the same environment in it, and share it: data and runs.
#
# A worker that is lost, or that is asked to end, ends the job, and the job is started again. An error ends it.
# To stop the job, press Ctrl-C here or send SIGTERM here: it is saved.
#
# From the environment: PYTHON (.venv/bin/python, else python3), RESTARTS (10, at most), PAUSE (10 seconds
# before each), GRACE (60 seconds that workers have to find out that one of them is gone).
set -u
readonly PYTHON=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}
readonly RESTARTS=${RESTARTS:-10} PAUSE=${PAUSE:-10} GRACE=${GRACE:-60}

refuse() {
    echo "train.sh: $1" >&2
    exit 2
}

[[ $# -ge 2 ]] || refuse "expected HOSTS_FILE RECIPE [OPTION...]"
[[ -r $1 ]] || refuse "$1 cannot be read; expected a file with HOST:PORT in each line"
[[ -x deploy/bare/worker.sh ]] || refuse "run it in the folder that has deploy/ and recipes/"
[[ " $* " != *" --no-resume "* ]] || refuse "with --no-resume each start would begin anew; leave it away"
mapfile -t workers < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$1")
shift
[[ ${#workers[@]} -gt 0 ]] || refuse "the hosts file names no worker; expected HOST:PORT in each line"
for address in "${workers[@]}"; do
    [[ $address =~ ^[A-Za-z0-9._-]+:[0-9]+$ ]] || refuse "$address in the hosts file: expected HOST:PORT"
done
addresses=$(printf ', "%s"' "${workers[@]}")

scratch=$(mktemp -d) || exit 1
mkfifo "$scratch/lifeline"
trap 'rm -rf "$scratch"' EXIT

stopped=   # the exit status once somebody asked this script to stop
let_go() { exec 3>&-; }   # workers end once nobody holds this any more, also if this script is killed
trap 'stopped=143; let_go' TERM HUP
trap 'stopped=130; let_go' INT

start() {
    pids=() statuses=()
    exec 3<>"$scratch/lifeline"
    for index in "${!workers[@]}"; do
        host=${workers[index]%:*}
        task="\"task\": {\"type\": \"worker\", \"index\": $index}"
        config="{\"cluster\": {\"worker\": [${addresses#, }]}, $task}"
        command=(env "TF_CONFIG=$config" deploy/bare/worker.sh "$PYTHON" "$@")
        if [[ $host == localhost || $host == 127.* ]]; then
            "${command[@]}" <"$scratch/lifeline" 3>&- &
        else
            ssh -o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=3 "$host" \
                "cd $(printf %q "$PWD") && $(printf '%q ' "${command[@]}")" <"$scratch/lifeline" 3>&- &
        fi
        pids[index]=$!
    done
}

# Waits for all workers. When one has failed, the others have GRACE seconds before they are asked to end.
wait_for_all() {
    local deadline= left=1
    while ((left)); do
        left=0
        for index in "${!pids[@]}"; do
            [[ -z ${statuses[index]-} ]] || continue
            if kill -0 "${pids[index]}" 2>/dev/null; then
                left=1
                continue
            fi
            wait "${pids[index]}"
            statuses[index]=$?
            [[ ${statuses[index]} -eq 0 || -n $deadline ]] || deadline=$((SECONDS + GRACE))
        done
        [[ -z $deadline || SECONDS -lt deadline ]] || let_go
        ((left)) && sleep 1
    done
    let_go
}

for ((again = 0; ; again++)); do
    start "$@"
    wait_for_all
    echo "train.sh: the workers ended with ${statuses[*]}" >&2
    [[ -z $stopped ]] || exit "$stopped"
    worst=0
    for status in "${statuses[@]}"; do   # an error that another start would meet again comes before all else
        if ((status > 0 && status < 128 || status == 130)); then
            exit "$status"
        fi
        ((status > worst)) && worst=$status
    done
    ((worst)) || exit 0
    if ((again >= RESTARTS)); then
        echo "train.sh: given up after $RESTARTS restarts; the same command goes on from the last checkpoint" >&2
        exit "$worst"
    fi
    echo "train.sh: starts again in $PAUSE seconds ($((again + 1)) of at most $RESTARTS)" >&2
    sleep "$PAUSE" &
    wait $!   # unlike sleep itself, this ends when a signal comes
    [[ -z $stopped ]] || exit "$stopped"
done
