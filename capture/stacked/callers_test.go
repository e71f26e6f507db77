package stacked

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// as runs a shell script as another user, in dir. The shell goes there itself: while
// this process starts a program it may not serve.
func as(t testing.TB, dir string, uid, gid uint32, groups []uint32, script string) error {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "cd "+dir+" && "+script)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		t.Logf("%s: %s", script, out)
	}
	return err
}

// open makes every directory above dir passable, so that other users reach it.
func open(t testing.TB, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = d[:strings.LastIndexByte(d, '/')] {
		must(t, os.Chmod(d, 0o755))
		if strings.Count(d, "/") < 2 {
			break
		}
	}
}

// What a user makes belongs to the user; in a set-group-ID directory, to its group.
func TestOwners(t *testing.T) {
	_, r, dir, _ := tapped(t)
	open(t, dir)
	must(t, os.Mkdir(dir+"/d", 0o777))
	must(t, os.Chmod(dir+"/d", 0o777))
	must(t, os.Mkdir(dir+"/g", 0o777))
	must(t, os.Chown(dir+"/g", 0, 77))
	must(t, os.Chmod(dir+"/g", 0o777|os.ModeSetgid))
	r.take(t)
	must(t, as(t, dir+"/d", 1000, 1001, nil, "umask 027; : >f; mkdir s; ln -s x l; mkfifo p"))
	r.want(t, "by a user", "create d/f 100640 1000:1001", "mkdir d/s 40750 1000:1001",
		"symlink d/l 120777 1000:1001 x", "mknod d/p 10640 1000:1001")
	must(t, as(t, dir+"/g", 1000, 1001, nil, "umask 0; : >f; mkdir s"))
	r.want(t, "in a set-group-ID directory", "create g/f 100666 1000:77", "mkdir g/s 42777 1000:77")
	must(t, os.Chmod(dir+"/d", 0o770))
	must(t, os.Chown(dir+"/d", 0, 88))
	r.take(t)
	must(t, as(t, dir, 1000, 1001, []uint32{88}, "umask 022; : >d/by-group"))
	r.want(t, "by a supplementary group", "create d/by-group 100644 1000:1001")
	if err := as(t, dir, 1000, 1001, nil, ": >d/no 2>/dev/null"); err == nil {
		t.Error("created without permission")
	}
	r.want(t, "refused")
}

// A write or truncation by somebody without CAP_FSETID clears set-id bits, and the
// kernel stops honouring them at once; so it is logged.
func TestSetIDCleared(t *testing.T) {
	_, r, dir, lower := tapped(t)
	open(t, dir)
	fresh := func() {
		t.Helper()
		os.Remove(dir + "/f")
		must(t, os.WriteFile(dir+"/f", []byte("0123456789"), 0o777))
		must(t, os.Chown(dir+"/f", 1000, 1000))
		must(t, os.Chmod(dir+"/f", 0o777|os.ModeSetuid|os.ModeSetgid))
		r.take(t)
	}
	for _, c := range []struct{ what, script, first string }{
		{"write", "printf x 1<>f", "write f 0+1"},
		{"truncate on open", ": >f", "truncate f 0"},
		{"truncate", "truncate -s 3 f", "truncate f 3"},
		{"fallocate", "fallocate -l 100 f", "fallocate f 0+100"},
	} {
		fresh()
		must(t, as(t, dir, 1000, 1000, nil, c.script))
		want := []string{c.first, "set-attr f 100777 1000:1000"}
		if c.what == "fallocate" {
			want = append(want, "sync f") // the program is careful
		}
		r.want(t, c.what+" by a user", want...)
		if st := stat(t, lower+"/f"); st.Mode&0o7777 != 0o777 {
			t.Errorf("%s: mode %o below", c.what, st.Mode)
		}
		if st := stat(t, dir+"/f"); st.Mode&0o7777 != 0o777 {
			t.Errorf("%s: mode %o above", c.what, st.Mode)
		}
	}
	fresh()
	must(t, os.Truncate(dir+"/f", 5))
	r.want(t, "truncate by root", "truncate f 5")
	fresh()
	must(t, os.Chown(dir+"/f", 1000, 1002))
	r.want(t, "chown", "set-attr f 100777 1000:1002")
}

// security.capability goes with the next write, whoever writes.
func TestCapabilityRemoved(t *testing.T) {
	_, r, dir, lower := tapped(t)
	// version 2, permitted CAP_NET_RAW
	value := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, how := range []string{"write", "truncate"} {
		must(t, os.WriteFile(dir+"/f", []byte("x"), 0o755))
		must(t, unix.Setxattr(dir+"/f", "security.capability", value, 0))
		r.take(t)
		if how == "write" {
			f, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString("y")
			must(t, err)
			must(t, f.Close())
			r.want(t, how, "remove-xattr f security.capability", "write f 0+1")
		} else {
			must(t, os.Truncate(dir+"/f", 0))
			r.want(t, how, "remove-xattr f security.capability", "truncate f 0")
		}
		if _, err := unix.Getxattr(lower+"/f", "security.capability", nil); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s: capability below: %v", how, err)
		}
	}
}

// Setting an access ACL by an owner outside the file's group clears set-group-ID.
func TestACLClearsSetGID(t *testing.T) {
	_, r, dir, _ := tapped(t)
	open(t, dir)
	if _, err := exec.LookPath("setfacl"); err != nil {
		t.Skip("needs setfacl")
	}
	must(t, os.WriteFile(dir+"/f", nil, 0o755))
	must(t, os.Chown(dir+"/f", 1000, 77))
	must(t, os.Chmod(dir+"/f", 0o755|os.ModeSetgid))
	r.take(t)
	must(t, as(t, dir, 1000, 1000, nil, "setfacl -m u:5:rwx f"))
	ops := r.take(t)
	if n := len(ops); n < 2 || brief(ops[n-1]) != "set-attr f 100775 1000:77" {
		t.Errorf("got %v", ops)
	}
}

// Programs run from the mount, set-user-ID ones too: no nosuid, nodev or noexec.
func TestExecAndDevices(t *testing.T) {
	_, dir, _ := start(t, Config{})
	open(t, dir)
	id, err := os.ReadFile("/usr/bin/id")
	must(t, err)
	must(t, os.WriteFile(dir+"/id", id, 0o755))
	must(t, os.Chmod(dir+"/id", 0o755|os.ModeSetuid))
	if out, err := idAs(dir); err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Errorf("set-user-ID program says %q, %v", out, err)
	}
	must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.WriteFile(dir+"/null", []byte("x"), 0))
	// a user's write takes the bit away from the next execution
	must(t, os.Chown(dir+"/id", 0, 0))
	must(t, os.Chmod(dir+"/id", 0o757|os.ModeSetuid))
	must(t, as(t, dir, 1000, 1000, nil, "printf '\\177' 1<>id"))
	if out, err := idAs(dir); err != nil || strings.TrimSpace(string(out)) != "1000" {
		t.Errorf("program written to says %q, %v", out, err)
	}
}

// idAs runs the program id in dir as a user.
func idAs(dir string) ([]byte, error) {
	cmd := exec.Command("/bin/sh", "-c", "exec "+dir+"/id -u")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	return cmd.Output()
}

func TestFifo(t *testing.T) {
	_, dir, _ := start(t, Config{})
	must(t, unix.Mkfifo(dir+"/p", 0o600))
	got := make(chan string, 1)
	go func() {
		b, _ := os.ReadFile(dir + "/p")
		got <- string(b)
	}()
	must(t, os.WriteFile(dir+"/p", []byte("through"), 0))
	if s := <-got; s != "through" {
		t.Errorf("read %q", s)
	}
}
