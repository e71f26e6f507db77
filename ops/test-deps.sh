#!/usr/bin/env bash
# Installs the Debian packages the tests use; without root it says what is missing.
set -eu
declare -A package=(
  [setfattr]=attr [setfacl]=acl [sqlite3]=sqlite3 [rsync]=rsync [git]=git [gcc]=gcc [nft]=nftables [ip]=iproute2 [tc]=iproute2
  [mkfs.xfs]=xfsprogs [mkfs.ext4]=e2fsprogs [losetup]=mount [unshare]=util-linux [sysctl]=procps [useradd]=passwd
)
missing=()
for command in "${!package[@]}"; do
  command -v "$command" >/dev/null || missing+=("${package[$command]}")
done
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev) # gcc only recommends it
[ -x /usr/lib/postgresql/15/bin/pg_amcheck ] || missing+=(postgresql-15)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "missing Debian packages: ${missing[*]}; install them, or run this as root" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/postgresql-common
grep -qs create_main_cluster /etc/postgresql-common/createcluster.conf ||
  echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
