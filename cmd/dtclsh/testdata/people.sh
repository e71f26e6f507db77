# Users of a host of a script, by a copy of /etc of its own.

# people HOST PASSWORD: a user repl with that password, who is in dtadmin
people() {
  # Other tests make users meanwhile: a file may vanish while it is copied.
  cp -a /etc "/tmp/etc-$1" 2>/dev/null || [ -s "/tmp/etc-$1/shadow" ]
  cp /mnt/ops/pam.d/understudy "/tmp/etc-$1/pam.d/understudy"
  echo 'repl:x:4242:4242::/nonexistent:/bin/false' >>"/tmp/etc-$1/passwd"
  printf 'repl:x:4242:\ndtadmin:x:4243:repl\n' >>"/tmp/etc-$1/group"
  echo "repl:$(perl -e 'print crypt($ARGV[0], q($6$understudy$))' "$2"):19000:0:99999:7:::" >>"/tmp/etc-$1/shadow"
}

# dress HOST: this namespace has the users of that host
dress() {
  # As a whole: a file that is replaced outside takes a mount on it away.
  mount --bind "/tmp/etc-$1" /etc
}
export -f dress
