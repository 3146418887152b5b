# The bare upgrade of one host: what every peer runs there. No journal, no preflight, no way back but a file.
#
# `source` is where the release lies (- is stdin), `version` what it says of itself, `hold` is 1 to stop before the old
# master ends.
set -eu
home=/usr/local/nginx
nginx=$home/sbin/nginx
pid_file=$home/logs/nginx.pid

# Waits for so long as the condition is not true, 20 s at most.
wait_for() {
    tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 1000 ] || { echo "gave up: $1" >&2; exit 1; }
        sleep 0.02
    done
}

if [ "$source" = - ]; then cat >$nginx.new; else mv "$source" $nginx.new; fi
chmod 755 $nginx.new
ln -f $nginx $nginx.old
mv $nginx.new $nginx
$nginx -q -t -c $home/conf/nginx.conf || { mv $nginx.old $nginx; exit 1; }
old=$(cat $pid_file)
kill -USR2 "$old"
wait_for '[ -s $pid_file ] && [ -e $pid_file.oldbin ]'
new=$(cat $pid_file)
wait_for '[ "$(pgrep -c -P $new)" -ge 2 ]'
kill -WINCH "$old"
wait_for '[ "$(pgrep -c -P $old)" -le 1 ]'
[ "$hold" = 0 ] || exit 0
kill -QUIT "$old"
wait_for '! kill -0 $old 2>/dev/null'
$nginx -v 2>&1 | grep -qF "nginx/$version"
