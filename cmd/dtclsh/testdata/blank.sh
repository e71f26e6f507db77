# nova is replaced by a blank machine: its disks are gone, with its data, its replication
# sets and its keys. It is paired again as any new machine, and gets all back from orion by
# the commands of docs/operate/restore.md, which TestBlankMachineByShell reads from there.
set -eu
ip link set lo up

# wait until a command succeeds, for at most two minutes
until_ok() {
  for _ in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  "$@"
}
on() { dtclsh --data "/tmp/$1" --stop-on-error "${@:2}"; }

understudy daemon --name orion --data /tmp/orion --listen 127.0.0.3 2>/out/jersey.log &
orion=$!
understudy daemon --name nova --data /tmp/nova --listen 127.0.0.2 2>/out/indy.log &
nova=$!
until_ok understudy status --data /tmp/nova
until_ok understudy status --data /tmp/orion
understudy pair invite --data /tmp/orion | understudy pair join --data /tmp/nova 127.0.0.3 - >/dev/null

mkdir -p /srv/pay/2026/cache
echo wages >/srv/pay/wages
echo cached >/srv/pay/2026/cache/file
ln /srv/pay/wages /srv/pay/2026/again
ln -s wages /srv/pay/link
chmod 640 /srv/pay/wages
chown 7:8 /srv/pay/2026
on nova -c 'repset create payroll; repset rule add "/srv/pay" include, recursive; repset rule add "/srv/pay/2026/cache" exclude, recursive; repset save;
  $con = connect payroll to orion map "/srv/pay" to "/srv/standby"; waitonmirror $con; settle $con; repset display' >/out/before
until_ok grep -q payroll -r /tmp/orion --include='*.json' --exclude-dir=nats
kill -KILL $nova
wait $nova 2>/dev/null || true
rm -rf /tmp/nova /srv/pay

# the machine is set up: named and paired
understudy daemon --name nova --data /tmp/nova --listen 127.0.0.2 2>>/out/indy.log &
nova=$!
until_ok understudy status --data /tmp/nova
understudy pair remove --data /tmp/orion nova
understudy pair invite --data /tmp/orion | understudy pair join --data /tmp/nova 127.0.0.3 - >/dev/null

# two commands, at orion
on orion -c "$RESTORE" >/out/restore

on nova -c 'repset use payroll; repset display' >/out/after
(cd /srv/standby && tar c --sort=name --numeric-owner . | sha256sum) >/out/standby
(cd /srv/pay && tar c --sort=name --numeric-owner . | sha256sum) >/out/pay
(cd /srv/pay && find . | sort) >/out/files

# and protect again
on nova -c 'connect payroll to orion map "/srv/pay" to "/srv/standby" mirror different, checksum; waitonmirror *; settle *; verify * checksum' >/out/again
kill -TERM $nova $orion
wait $nova
wait $orion
