# nova (198.51.100.10) and orion (198.51.100.20) as in samples.sh, on one segment with a
# witness (198.51.100.1). Every form of the monitor commands is typed at orion; nova dies,
# is replaced, gets its data home by the sample as it is shipped; its work is moved to
# orion as planned, and orion becomes its source.
set -eu
said() { # what was said, when something is wrong
  if [ $? -ne 0 ]; then tail -n 30 /out/forms /out/failback /out/spostback /out/switch /out/reverse >&2 || true; fi
}
trap said EXIT
mkdir /mnt/orion /mnt/nova
mount -t tmpfs tmpfs /run

. /mnt/testdata/people.sh
people nova pw-one
people orion pw-two

# the switch, and on it the witness
ip link set lo up
ip link add switch type bridge forward_delay 0 mcast_snooping 0
ip addr add 198.51.100.1/24 dev switch
ip link set switch up
cable() { # host, its address, that of its card
  ip netns add "$1"
  ip link add "to-$1" type veth peer name wire address "$3" netns "$1"
  ip link set "to-$1" master switch up
  ip netns exec "$1" bash -c "ip link set lo up; ip addr add $2/24 dev wire; ip link set wire up"
}
cable nova 198.51.100.10 02:00:00:00:00:10
cable orion 198.51.100.20 02:00:00:00:00:20
ip link add spare-end type veth peer name spare address 02:00:00:00:00:21 netns orion
ip link set spare-end up
ip netns exec orion ip addr add 203.0.113.20/24 dev spare
ip netns exec orion ip link set spare up
mkdir /mnt/orion/srv /mnt/nova/srv

until_ok() {
  for _ in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  "$@"
}
daemon() { # name, address
  exec ip netns exec "$1" bash -c "mount --bind /mnt/$1/srv /srv; dress $1
    exec understudy daemon --name $1 --data /tmp/$1 --listen $2"
}
daemon orion 0.0.0.0 2>/out/jersey.log &
orion=$!
daemon nova 0.0.0.0 2>/out/indy.log &
nova=$!
on() { ip netns exec "$1" dtclsh --data "/tmp/$1" "${@:2}"; }
until_ok ip netns exec nova understudy status --data /tmp/nova
until_ok ip netns exec orion understudy status --data /tmp/orion
ip netns exec orion understudy pair invite --data /tmp/orion | ip netns exec nova understudy pair join --data /tmp/nova 198.51.100.20 - >/dev/null
state() { on orion -c "\$s = monitor get nova; if \$s <> $1 then exit 1 end"; }
grep_on() { on "$1" -c "$2" | grep -q "$3"; }
card() { ip netns exec nova ip "$@"; }

# every form, against real daemons
on orion -f /mnt/testdata/forms.dtcl >/out/forms 2>&1
card addr del 198.51.100.11/24 dev wire 2>/dev/null || true

# protect, watch, die
mkdir -p /mnt/nova/srv/pay
echo wages >/mnt/nova/srv/pay/wages
on nova -f /mnt/ops/samples/start.dtcl
on orion -c 'target orion; monitor create nova; monitor add 198.51.100.10 interval = 0.2 missed = 5; monitor option auto witness = 198.51.100.1; monitor start nova'
until_ok state 1
until_ok grep_on orion 'monitor list' online
card link set wire down
until_ok state 3
ip netns exec orion ip addr show dev wire | grep -q 198.51.100.10/24
on orion -c 'status monitor' >/out/failedover
echo 'by users of orion' >/mnt/orion/srv/pay/new
echo raised >/mnt/orion/srv/pay/wages

# failback while nova is off the network, then the shipped sample at nova
on orion -c '$rc = failback nova stop; write $rc; monitor display nova' >/out/failback 2>&1
card link set wire up
until_ok grep_on nova 'status con *' 'Restore required'
on nova -f /mnt/ops/samples/spostback.dtcl >/out/spostback 2>&1
diff -r /mnt/nova/srv/pay /mnt/orion/srv/pay
echo again >/mnt/nova/srv/pay/again
until_ok cmp /mnt/nova/srv/pay/again /mnt/orion/srv/pay/again
until_ok state 1
on orion -c 'monitor display nova' >/out/again

# a planned switchover: the script stops what writes
printf '#!/bin/sh\necho last >/srv/pay/last\ntouch /tmp/stopped\n' >/tmp/stop
chmod 755 /tmp/stop
cat >/tmp/switch.dtcl <<'END'
login nova repl "pw-one"
target orion
$rc = failover nova dryrun
$rc = failover nova switch script = "/tmp/no-such-script"
write "refused " $rc
$rc = failover nova switch script = "/tmp/stop"
write "switched " $rc
$rc = monitor get nova
write "state " $rc
END
until_ok grep_on orion 'monitor display nova' 'gives its addresses up'
on orion -f /tmp/switch.dtcl >/out/switch 2>&1
cmp /mnt/nova/srv/pay/last /mnt/orion/srv/pay/last
ip netns exec orion ip addr show dev wire | grep -q 198.51.100.10/24

# and staying there: nova has another address by now
if card addr show dev wire | grep -q 198.51.100.10/; then echo "nova kept its address" >&2; exit 1; fi
card addr add 198.51.100.99/24 dev wire
cat >/tmp/reverse.dtcl <<'END'
machine add nova 198.51.100.99
login nova repl "pw-one"
target orion
failover nova reverse at 198.51.100.99
$rc = failover nova reverse at 198.51.100.99
write "reversed " $rc
END
echo later >/mnt/orion/srv/pay/later
until_ok on orion -c 'machine add nova 198.51.100.99; login nova repl "pw-one"; $rc = ping nova; if $rc < 1 then exit 1 end'
on orion -f /tmp/reverse.dtcl >/out/reverse 2>&1
grep -q '^reversed 1' /out/reverse
until_ok cmp /mnt/orion/srv/pay/later /mnt/nova/srv/pay/later
on orion -c 'status con *' >/out/reversed
kill -TERM $nova $orion
wait $nova
wait $orion
