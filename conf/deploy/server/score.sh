#!/bin/sh
# Score a job file for a date, yesterday (UTC) by default; try again while its input isn't ready or a system is away.
#
#   score.sh conf/games.yaml [options of lakehouse score, but for --date]
#
# DATE       the date, YYYY-MM-DD; empty for a job that takes none, such as one that reads messages
# ATTEMPTS   how often at most; default 12
# PAUSE      seconds between them; default 600
set -u
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
'' | -*)
    usage >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")" || exit 2
conf=$1
shift
date=${DATE-yesterday}
attempts=${ATTEMPTS:-12}

# One run of a job file at a time: a second one would only be told that the first has published.
exec 9>"${TMPDIR:-/tmp}/lakehouse-$(printf %s "$conf" | tr -c 'A-Za-z0-9' _).lock"
if ! flock -n 9; then
    echo "$conf: another run is at it"
    exit 0
fi

attempt=1
while :; do
    .venv/bin/lakehouse score "$conf" ${date:+--date "$date"} "$@" 9>&-
    code=$?
    case $code in
    5 | 6) ;; # a system is away, or the input isn't ready: later it may be otherwise
    *) exit "$code" ;;
    esac
    if [ "$attempt" -ge "$attempts" ]; then
        echo "$conf${date:+ $date}: given up after $attempts attempts" >&2
        exit "$code"
    fi
    attempt=$((attempt + 1))
    sleep "${PAUSE:-600}"
done
