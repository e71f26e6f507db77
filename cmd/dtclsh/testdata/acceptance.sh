# Two machines of one network, as an operator sets them up. It runs in namespaces of its
# own (mounts, network, processes), so names, ports and paths are those of the manual.
set -eu
ip link set lo up

# wait until a command succeeds, for at most a minute
until_ok() {
  for _ in $(seq 300); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  "$@"
}

understudy daemon --name indy   --data /tmp/indy   --listen 127.0.0.2 2>/out/indy.log &
indy=$!
understudy daemon --name jersey --data /tmp/jersey --listen 127.0.0.3 2>/out/jersey.log &
jersey=$!
until_ok understudy status --data /tmp/indy
until_ok understudy status --data /tmp/jersey

mkdir /srv/tree
echo one >/srv/tree/one
code=$(understudy pair invite --data /tmp/jersey)
understudy pair join --data /tmp/indy 127.0.0.3 "$code" >/out/join
understudy mount --data /tmp/indy /srv/tree
dtclsh --data /tmp/indy -c 'source indy; repset create tree; repset rule add "/srv/tree" include, recursive to tree; repset save;
  $con = connect tree to jersey map "/srv/tree" to "/srv/replica"; waitonmirror $con; write $con' >/out/con
con=$(cat /out/con)

mkdir -p /srv/tree/a/b
echo two >/srv/tree/a/b/two
mv /srv/tree/one /srv/tree/a/one
understudy settle --data /tmp/indy "$con"
(cd /srv/tree && find . | sort && cat a/one a/b/two) >/out/tree
(cd /srv/replica && find . | sort && cat a/one a/b/two) >/out/replica
dtclsh --data /tmp/indy --json -c 'status con *' >/out/status.json

cat >/tmp/script.dtcl <<'S'
source indy
$state = status con 1
write $state
environment
transmission pause *
S
dtclsh --data /tmp/indy -f /tmp/script.dtcl >/out/script
if understudy settle --data /tmp/indy 99 2>/out/nosettle; then exit 9; fi
dtclsh --data /tmp/indy -c 'transmission resume 1; disconnect 1'
understudy umount --data /tmp/indy /srv/tree
kill -TERM $indy $jersey
wait $indy
wait $jersey
