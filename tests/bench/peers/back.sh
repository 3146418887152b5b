# The bare way back of one held host: the old workers return, the new master ends, the old file lies at its place again.
set -eu
home=/usr/local/nginx
nginx=$home/sbin/nginx
pid_file=$home/logs/nginx.pid

wait_for() {
    tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 1000 ] || { echo "gave up: $1" >&2; exit 1; }
        sleep 0.02
    done
}

old=$(cat $pid_file.oldbin)
new=$(cat $pid_file)
kill -HUP "$old"
wait_for '[ "$(pgrep -c -P $old)" -ge 3 ]'
kill -QUIT "$new"
wait_for '! kill -0 $new 2>/dev/null'
mv $nginx.old $nginx
