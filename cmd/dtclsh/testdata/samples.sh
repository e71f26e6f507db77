# nova (198.51.100.10) and orion (198.51.100.20), each with a network, a /srv and users of
# its own, joined by a wire; the sample scripts are run one after another.
set -eu
mkdir /mnt/orion
mount -t tmpfs tmpfs /run

. /mnt/testdata/people.sh
people nova pw-one
people orion pw-two

ip netns add orion
ip link add wire type veth peer name wire netns orion
ip link set lo up
ip addr add 198.51.100.10/24 dev wire
ip link set wire up
ip netns exec orion bash -c 'ip link set lo up; ip addr add 198.51.100.20/24 dev wire; ip link set wire up'
mkdir /mnt/orion/srv

until_ok() {
  for _ in $(seq 300); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  "$@"
}
ip netns exec orion bash -c 'mount --bind /mnt/orion/srv /srv; dress orion
  exec understudy daemon --name orion --data /tmp/orion --listen 198.51.100.20' 2>/out/jersey.log &
orion=$!
dress nova
understudy daemon --name nova --data /tmp/nova --listen 198.51.100.10 2>/out/indy.log &
nova=$!
until_ok understudy status --data /tmp/nova
until_ok ip netns exec orion understudy status --data /tmp/orion
ip netns exec orion understudy pair invite --data /tmp/orion | understudy pair join --data /tmp/nova 198.51.100.20 - >/dev/null

mkdir -p /srv/pay /srv/data/cache
echo wages >/srv/pay/wages
echo draft >/srv/pay/draft.tmp
echo data >/srv/data/file
echo cached >/srv/data/cache/file

export SRC_HOST=nova
for script in $SCRIPTS; do
  case $script in
    session) dtclsh --data /tmp/nova -i </mnt/ops/samples/$script.dtcl ;;
    *) dtclsh --data /tmp/nova -f /mnt/ops/samples/$script.dtcl ;;
  esac >/out/$script.out 2>/out/$script.err && code=0 || code=$?
  echo $code >/out/$script.code
  # start.dtcl leaves a connection that the next one makes anew
  if [ $script = start ]; then
    (cd /mnt/orion/srv && find pay | sort) >/out/replica
    dtclsh --data /tmp/nova -c 'disconnect *'
  fi
done
dtclsh --data /tmp/nova --json -c 'help restore; help monitor start' >/out/help
kill -TERM $nova $orion
wait $nova
wait $orion
